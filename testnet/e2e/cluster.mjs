// Nodes that are processes of their own, each with its address and its folder, so that one can be killed and started again.

import { createServer } from 'node:net';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program } from './program.mjs';
import { references } from './references.mjs';
import { within } from './wait.mjs';

const READY_WITHIN = 60_000;
const HOST = '127.0.0.1';

/** Whether the suites run against the libraries' own servers: one server that has several names, or several servers. */
export const reference = process.env.E2E_TARGET === 'reference';

/**
 * @typedef {object} Cluster
 * @property {{host: string, port: number}[]} at  where each node listens
 * @property {string[]} ws  one WebSocket URL for each node, without a path
 * @property {(i: number) => Promise<void>} kill  ends node i at once
 * @property {(i: number) => Promise<void>} restart  starts it again, at its address and with its folder
 * @property {() => string} log  the last lines that the nodes wrote
 * @property {() => Promise<void>} close
 */

/** The counterproof of every scene: nodes that do not know each other, so that all that is done over two of them must fail. */
const islands = process.env.E2E_TARGET === 'islands';

/**
 * Starts `nodes` nodes that know each other, or, with `federate: false`, that do not, on addresses of `host`; `flags` go to each, and
 * with `token` they are private. With E2E_TARGET=reference: the reference server of `door`.
 * @returns {Promise<Cluster>}
 */
export async function startCluster({ door, nodes = 2, federate = !islands, flags = [], token, host = HOST }) {
  if (reference) return startReferences(references[door], nodes, federate);
  if (!process.env.E2E_BIN) throw new Error('E2E_BIN names no peerserver binary; start the suites with run.mjs');
  const ports = await freePorts(nodes, host);
  const programs = [];
  const start = async (i) => {
    const args = ['node', '--listen', `${host}:${ports[i]}`, '--admin', `${HOST}:0`, '--data', folders[i], '--allow-private', '--json', '--log', 'warn', ...flags];
    if (token) args.push('--token', token);
    if (!federate || nodes === 1) args.push('--dht=false');
    else ports.forEach((port, k) => k !== i && args.push('--bootstrap', `${host}:${port}`));
    programs[i] = new Program(process.env.E2E_BIN, args);
    await programs[i].line(READY_WITHIN, `node ${i} is ready`);
  };
  const folders = ports.map(() => mkdtempSync(join(tmpdir(), 'node-')));
  await Promise.all(ports.map((_, i) => start(i)));
  const cluster = {
    ...addresses(ports, host),
    kill: (i) => programs[i].kill(),
    restart: start,
    log: () => programs.map((program, i) => `node ${i}: ${program.log()}`).join('\n'),
    close: async () => {
      await Promise.all(programs.map((program) => program.close()));
      folders.forEach((folder) => rmSync(folder, { recursive: true, force: true }));
    },
  };
  if (federate) await within(READY_WITHIN, 'the nodes find each other', Promise.all(ports.map((port) => linked(host, port, token ? `/t/${token}` : '', nodes - 1))), cluster.log);
  return cluster;
}

async function startReferences(startOne, nodes, federate) {
  const ports = await freePorts(federate ? 1 : nodes);
  const ends = await Promise.all(ports.map((port) => startOne(port)));
  const of = (i) => (federate ? 0 : i);
  return {
    ...addresses(Array.from({ length: nodes }, (_, i) => ports[of(i)])),
    kill: (i) => ends[of(i)](),
    restart: async (i) => {
      ends[of(i)] = await startOne(ports[of(i)]);
    },
    log: () => '',
    close: async () => void (await Promise.all(ends.map((end) => end()))),
  };
}

function addresses(ports, host = HOST) {
  return { at: ports.map((port) => ({ host, port })), ws: ports.map((port) => `ws://${host}:${port}`) };
}

async function freePorts(n, host = HOST) {
  const servers = Array.from({ length: n }, () => createServer().listen(0, host));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

async function linked(host, port, prefix, want) {
  for (;;) {
    const { relay } = await (await fetch(`http://${host}:${port}${prefix}/stats.json`)).json();
    if (relay.links >= want) return;
    await new Promise((next) => setTimeout(next, 50));
  }
}
