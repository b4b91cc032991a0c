// Records node/door/tracker/testdata/reference.json from bittorrent-tracker's server:
//
//   scripts/install.sh npm && node testnet/transcripts/record-tracker.mjs

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { record } from './recorder.mjs';

const folder = new URL('../e2e/node_modules/bittorrent-tracker/', import.meta.url);
const { default: Server } = await import(new URL('server.js', folder));
const { version } = JSON.parse(await readFile(new URL('package.json', folder)));

const id = (name) => name.padEnd(20, '.');
const swarm = id('swarm');
const offer = (n) => ({ offer_id: id(`offer ${n}`), offer: { type: 'offer', sdp: `v=0\r\né <&> ${n}` } });
const announce = (peer, more = {}) => [peer, 'send', JSON.stringify(
  { action: 'announce', info_hash: swarm, peer_id: id(peer), numwant: 5, uploaded: 0, downloaded: 0, left: 100, offers: [], ...more },
)];
const answer = (peer, to, n, more = {}) => [peer, 'send', JSON.stringify(
  { action: 'announce', info_hash: swarm, peer_id: id(peer), to_peer_id: id(to), offer_id: id(`offer ${n}`), answer: { type: 'answer', sdp: `v=0 ${n}` }, ...more },
)];
const scrape = (peer, hashes) => [peer, 'send', JSON.stringify({ action: 'scrape', info_hash: hashes })];
const says = (peer, text) => [peer, 'send', text];
const open = (peer) => [peer, 'open', '/'];
const enters = (peer, more) => [open(peer), announce(peer, more)];

const scenes = [
  { name: 'two meet', steps: [
    ...enters('a', { event: 'started' }), ...enters('b', { event: 'started', offers: [offer(2)] }), answer('a', 'b', 2),
    announce('a', { offers: [offer(3)] }), answer('b', 'a', 3), ['b', 'close'], announce('a', { offers: [offer(4)] }),
  ] },
  { name: 'an offer before anybody else is there', steps: [...enters('a', { offers: [offer(1)] }), ...enters('b'), answer('b', 'a', 1)] },
  { name: 'as many offers as there are others', steps: [...enters('a'), ...enters('b', { offers: [offer(1), offer(2)] })] },
  { name: 'a seeder', steps: [
    ...enters('a', { left: 0, event: 'started' }), ...enters('b', { event: 'started' }), announce('b', { left: 0, event: 'completed' }), announce('b', { event: 'update' }),
  ] },
  { name: 'passive', steps: [...enters('a', { left: 0, event: 'started', numwant: 0 }), ...enters('b', { offers: [offer(1)] }), answer('a', 'b', 1)] },
  { name: 'stopped', steps: [...enters('a'), ...enters('b'), announce('b', { event: 'stopped' }), announce('a', { offers: [offer(1)] })] },
  { name: 'two swarms of one socket', steps: [
    ...enters('a'), announce('a', { info_hash: id('other') }), ...enters('b', { offers: [offer(1)] }), announce('b', { info_hash: id('other'), offers: [offer(2)] }),
    answer('a', 'b', 2, { info_hash: id('other') }), answer('a', 'b', 1),
  ] },
  { name: 'bytes above 127', steps: [
    ...enters('a', { info_hash: 'ÿ\u0000é"\\aaaaaaaaaaaaaaa', peer_id: '\u0001\u0080þbbbbbbbbbbbbbbbbb' }),
    open('b'), announce('b', { info_hash: 'ÿ\u0000é"\\aaaaaaaaaaaaaaa', offers: [{ ...offer(1), offer_id: 'ÿþýaaaaaaaaaaaaaaaaa' }] }),
  ] },
  { name: 'scrape', steps: [...enters('a', { left: 0 }), ...enters('b'), scrape('b', swarm), scrape('b', [swarm, id('nothing')])] },
  { name: 'an answer to nobody', steps: [...enters('a'), answer('a', 'nobody', 1), announce('a')] },
  { name: 'invalid info_hash', steps: [open('a'), announce('a', { info_hash: 'short' }), announce('a', { info_hash: undefined }), announce('a')] },
  { name: 'invalid peer_id', steps: [open('a'), announce('a', { peer_id: 'short' }), announce('a')] },
  { name: 'invalid to_peer_id', steps: [...enters('a'), answer('a', 'b', 1, { to_peer_id: 'short' }), announce('a')] },
  { name: 'invalid event', steps: [open('a'), announce('a', { event: 'gone' }), announce('a')] },
  { name: 'unknown action', steps: [open('a'), says('a', '{"action":"connect"}'), says('a', '{}'), announce('a')] },
  { name: 'not JSON', steps: [open('a'), says('a', 'garbage'), says('a', '5'), announce('a')] },
];

const server = new Server({ udp: false, http: false, ws: true, stats: false });
server.on('warning', () => {});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
await record({
  url: `ws://127.0.0.1:${server.http.address().port}`,
  about: `bittorrent-tracker ${version}`,
  scenes,
  idOf: () => undefined,
  to: fileURLToPath(new URL('../../node/door/tracker/testdata/reference.json', import.meta.url)),
});
process.exit(0);
