// The reference servers, as they are without options but for where they listen: the protocol's name is the argument. Prints
// where that is, as our nodes do, and ends with its standard input. Runs where the packages are installed.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import { pathToFileURL } from 'node:url';

const servers = { peerjs: 'peer', 'y-webrtc': 'y-webrtc' };
const name = servers[process.argv.at(-1)];
const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8'));

// Both take a port, and one of them says nothing of which it got.
const { listen } = http.Server.prototype;
http.Server.prototype.listen = function listenOnLoopback() {
  this.once('listening', () => {
    const ws = `ws://127.0.0.1:${this.address().port}`;
    console.log(JSON.stringify({ ws, pid: process.pid, name: `npm ${name} ${version}` }));
  });
  return listen.call(this, 0, '127.0.0.1');
};

process.stdin.on('end', () => process.exit());
process.stdin.resume();

if (name === 'peer') {
  const { PeerServer } = await import(pathToFileURL('node_modules/peer/dist/module.mjs').href);
  PeerServer();
} else {
  console.log = ((log) => (line, ...more) => more.length || log(line))(console.log); // it greets
  await import(pathToFileURL('node_modules/y-webrtc/bin/server.js').href);
}
