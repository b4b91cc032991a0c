// The reference server, npm bittorrent-tracker's own, as it is without options. It prints where it listens as our nodes
// do, and ends with its standard input. scripts/bench.sh runs it where its package is installed.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import Server from 'bittorrent-tracker/server';

const server = new Server({ http: true, udp: false, ws: true, stats: false });
server.on('error', (err) => {
  console.error(err);
  process.exit(1);
});
server.on('warning', () => {}); // a client that leaves in the middle of something
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { version } = JSON.parse(readFileSync('node_modules/bittorrent-tracker/package.json', 'utf8'));
console.log(JSON.stringify({ ws: `ws://127.0.0.1:${server.http.address().port}`, pid: process.pid, version, node: process.version }));
