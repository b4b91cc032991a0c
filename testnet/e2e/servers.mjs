// The servers under test: our testnet as a process, or the reference, npm bittorrent-tracker's own server.

import { once } from 'node:events';
import Server from 'bittorrent-tracker/server';
import { Program } from './program.mjs';
import { within } from './wait.mjs';

const READY_WITHIN = 60_000;
const GONE_WITHIN = 30_000;

/**
 * @typedef {object} Network
 * @property {string[]} ws      one WebSocket URL for each node
 * @property {(i: number) => void} kill  ends node i at once (needs `processes`)
 * @property {() => string} log the last lines the program wrote
 * @property {() => Promise<void>} close
 */

/**
 * Starts `nodes` nodes that know each other, or, with `federate: false`, that do not; with `knowAfter`, only after so many seconds.
 * With E2E_TARGET=reference the tests run against the reference instead, which shows that a test can pass and can fail
 * without our program: one server that has several names, or several servers.
 * @returns {Promise<Network>}
 */
export async function startNodes({ nodes = 2, federate = true, processes = false, knowAfter = 0 } = {}) {
  if (process.env.E2E_TARGET === 'reference') {
    if (processes || knowAfter) throw new Error('a reference server has no nodes to lose or to find');
    return federate ? oneReference(nodes) : startReferences(nodes);
  }
  return startProgram({ nodes, federate, processes, knowAfter });
}

/** `n` reference servers that know nothing of each other. */
export async function startReferences(n) {
  const servers = await Promise.all(Array.from({ length: n }, () => startReference()));
  return {
    ws: servers.map((s) => s.url),
    kill: (i) => void servers[i].close(),
    log: () => '',
    close: async () => void (await Promise.all(servers.map((s) => s.close()))),
  };
}

// The client library shares one socket for each URL, so "two nodes" of one server need two paths.
async function oneReference(names) {
  const server = await startReference();
  return {
    ws: Array.from({ length: names }, (_, i) => (i === 0 ? server.url : `${server.url}/announce?name=${i}`)),
    kill: () => {
      throw new Error('the one reference server cannot lose a node');
    },
    log: () => '',
    close: server.close,
  };
}

/** One reference server, on `port` or any free one. */
export async function startReference(port = 0) {
  const server = new Server({ http: true, udp: false, ws: { clientTracking: true }, stats: false });
  server.on('error', () => {});
  server.on('warning', () => {});
  server.listen(port, '127.0.0.1');
  await within(READY_WITHIN, 'the reference server listens', once(server, 'listening'));
  const bound = server.http.address().port;
  const close = async () => {
    if (server.destroyed) return;
    for (const socket of server.ws.clients) socket.terminate();
    await within(GONE_WITHIN, 'the reference server closes', new Promise((done) => server.close(done)));
  };
  return { url: `ws://127.0.0.1:${bound}`, port: bound, close };
}

async function startProgram({ nodes, federate, processes, knowAfter }) {
  const bin = process.env.E2E_BIN;
  if (!bin) throw new Error('E2E_BIN names no peerserver binary; start the suites with run.mjs');
  const args = ['testnet', '--nodes', String(nodes), '--json'];
  if (!federate) args.push('--federate=false');
  if (processes) args.push('--processes');
  if (knowAfter) args.push('--know-after', `${knowAfter}s`);
  const program = new Program(bin, args);
  const ready = JSON.parse(await program.line(READY_WITHIN, 'the nodes are ready'));
  if (ready.nodes.length !== nodes) throw new Error(`testnet started ${ready.nodes.length} nodes, want ${nodes}`);
  return {
    ws: ready.nodes.map((node) => node.ws),
    kill: (i) => {
      if (!processes) throw new Error('only a node that is a process of its own can be killed');
      process.kill(ready.nodes[i].pid, 'SIGKILL');
    },
    log: () => program.log(),
    close: () => program.close(),
  };
}
