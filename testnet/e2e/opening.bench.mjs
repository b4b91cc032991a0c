// From joining to an open channel, in Chromium: our SDK on one node and across two, and PeerJS with its own server, in turns so that
// what else the machine does meets all alike. A line of JSON for each goes to the file that E2E_OPENED names.

import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { test } from 'node:test';
import { PeerServer } from 'peer';
import { openBrowser } from './browser.mjs';
import { newRoom } from './scenes.mjs';
import { startNodes } from './servers.mjs';
import { within } from './wait.mjs';

const TIMES = Number(process.env.E2E_TIMES ?? 60);
const OPEN_WITHIN = 30_000;

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

test('from joining to an open channel', async () => {
  const nodes = await startNodes({ nodes: 2, processes: true });
  const port = await freePort();
  const reference = PeerServer({ port, host: '127.0.0.1', path: '/' });
  const browser = await openBrowser();
  try {
    const [one, other] = await Promise.all([browser.open('opening'), browser.open('opening')]);
    const [a, b] = nodes.ws;
    const server = { host: '127.0.0.1', port, path: '/', config: { iceServers: [] } };
    const ours = (from, to) => async () => {
      const app = newRoom('opening');
      await one.call('stay', { nodes: [from], app });
      return other.call('come', { nodes: [to], app });
    };
    const ways = [
      ['PeerJS, its own server', async () => {
        const id = newRoom('opening');
        await one.call('stayPeerJS', { server, id });
        return other.call('comePeerJS', { server, id });
      }],
      ['the SDK, one node', ours(a, a)],
      ['the SDK, two nodes', ours(a, b)],
    ].map(([name, open]) => ({ name, open, times: [] }));
    for (let i = -2; i < TIMES; i += 1) {
      for (const way of ways) {
        const took = await within(OPEN_WITHIN, `${way.name} opens a channel`, way.open(), () => `${one.detail()} | ${other.detail()}`);
        await one.call('end');
        if (i >= 0) way.times.push(took); // the first two warm up
      }
    }
    const lines = ways.map(({ name, times }) => JSON.stringify({ name, times }));
    if (process.env.E2E_OPENED) writeFileSync(process.env.E2E_OPENED, `${lines.join('\n')}\n`);
    else console.log(lines.join('\n'));
  } finally {
    await browser.close();
    await new Promise((resolve) => { reference.close?.(resolve) ?? resolve(); });
    await nodes.close();
  }
});
