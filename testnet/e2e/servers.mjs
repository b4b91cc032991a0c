// The servers under test: our testnet as a process, or the reference, npm bittorrent-tracker's own server.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import Server from 'bittorrent-tracker/server';
import { within } from './wait.mjs';

const READY_WITHIN = 60_000;
const GONE_WITHIN = 30_000;
const STDERR_LINES = 100;

/**
 * @typedef {object} Network
 * @property {string[]} ws      one WebSocket URL for each node
 * @property {(i: number) => void} kill  ends node i at once (needs `processes`)
 * @property {() => string} log the last lines the program wrote
 * @property {() => Promise<void>} close
 */

/**
 * Starts `nodes` nodes that know each other, or, with `federate: false`, that do not.
 * With E2E_TARGET=reference the tests run against the reference instead, which shows that a test can pass and can fail
 * without our program: one server that has several names, or several servers.
 * @returns {Promise<Network>}
 */
export async function startNodes({ nodes = 2, federate = true, processes = false } = {}) {
  if (process.env.E2E_TARGET === 'reference') {
    return federate ? oneReference(nodes) : startReferences(nodes);
  }
  return startProgram({ nodes, federate, processes });
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

async function startProgram({ nodes, federate, processes }) {
  const args = ['testnet', '--nodes', String(nodes), '--json'];
  if (!federate) args.push('--federate=false');
  if (processes) args.push('--processes');
  const program = runProgram(args);
  const ready = JSON.parse(await program.firstLine);
  if (ready.nodes.length !== nodes) throw new Error(`testnet started ${ready.nodes.length} nodes, want ${nodes}`);
  return {
    ws: ready.nodes.map((node) => node.ws),
    kill: (i) => {
      if (!processes) throw new Error('only a node that is a process of its own can be killed');
      process.kill(ready.nodes[i].pid, 'SIGKILL');
    },
    log: program.log,
    close: program.close,
  };
}

/** Runs peerserver with `args`; `firstLine` is the first line of its standard output. */
function runProgram(args) {
  const bin = process.env.E2E_BIN;
  if (!bin) throw new Error('E2E_BIN names no peerserver binary; start the suites with run.mjs');
  const child = spawn(bin, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const tail = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    tail.push(line);
    if (tail.length > STDERR_LINES) tail.shift();
  });
  const log = () => tail.join('\n');
  const gone = new Promise((resolve) => {
    child.once('error', (err) => resolve(err.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  const line = new Promise((resolve) => createInterface({ input: child.stdout }).once('line', resolve));
  const firstLine = within(READY_WITHIN, `peerserver ${args.join(' ')} is ready`, Promise.race([
    line,
    gone.then((how) => {
      throw new Error(`peerserver ${args.join(' ')} ended (${how}) before it was ready:\n${log()}`);
    }),
  ]), log);
  const close = async () => {
    child.kill('SIGTERM');
    try {
      const how = await within(GONE_WITHIN, 'peerserver ends after SIGTERM', gone, log);
      if (how !== 'exit code 0' && how !== 'SIGTERM') throw new Error(`peerserver ended badly (${how}):\n${log()}`);
    } finally {
      child.kill('SIGKILL');
    }
  };
  return { firstLine, log, close };
}
