// A tab of Chromium with a peer of our own SDK: node tab.mjs NODE APP. It does what the program "peer" of peer_test.go does,
// and prints the same: says hello to whom it meets, sends pieces when standard input asks for them ("send N"), and prints a
// line of JSON for all that happens. Browser, page and the page's server are on the machine on which it is started.

import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { openBrowser } from '../e2e/browser.mjs';

const [node, app] = process.argv.slice(2);
const LOOK_EVERY = 20;
const PIECES = { size: 16 << 10, perSecond: 64 }; // as peer_test.go has it

// The node's certificate is the lab's own.
const browser = await openBrowser({ flags: ['--ignore-certificate-errors'], pages: ['ways'] });
let over = false;
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => (over = true));

const print = (event) => console.log(JSON.stringify({ At: new Date().toISOString(), ...event }));

/** A way as the program "peer" prints it. */
const shown = ({ path, transport = '', server = '', noDirect = '', noTurn = '' }) => ({ Path: path, Transport: transport, Server: server, no_direct: noDirect, no_turn: noTurn });

try {
  const tab = await browser.open('ways');
  await tab.call('join', { urls: [node], app });
  print({ Event: 'joined' });
  createInterface({ input: process.stdin }).on('line', (line) => {
    const all = Number(line.split(' ')[1]);
    tab.call('transfer', { all, ...PIECES }).then(
      (hash) => print({ Event: 'sent', Bytes: all * PIECES.size, Hash: hash }),
      (err) => console.error(err),
    );
  });
  const ways = new Map(); // of each peer, as text
  let bytes = 0;
  let done = false;
  for (let said = 0; !over; await pause(LOOK_EVERY)) {
    const { peers, heard } = await tab.call('state');
    for (const { id, way } of peers) {
      const text = JSON.stringify(way);
      if (ways.get(id) === text) continue;
      print({ Event: ways.has(id) ? 'path' : 'peer', Way: shown(way) });
      if (!ways.has(id)) await tab.call('say', 'hello');
      ways.set(id, text);
    }
    for (const id of ways.keys()) {
      if (peers.some((peer) => peer.id === id)) continue;
      ways.delete(id);
      print({ Event: 'leave' });
    }
    for (const [, text] of heard.slice(said)) print({ Event: 'message', Text: text });
    said = heard.length;
    const came = await tab.call('came');
    if (came.bytes > bytes || (came.hash && !done)) print({ Event: came.hash ? 'done' : 'progress', Bytes: came.bytes, Hash: came.hash, Broken: came.broken });
    bytes = came.bytes;
    done = came.hash !== '';
  }
} catch (err) {
  if (!over) throw err; // the browser is asked to end too, and may be the first to do so
} finally {
  await browser.close();
}
