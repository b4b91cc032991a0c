// Records node/door/rxdb/testdata/reference.json from the server that RxDB's package has:
//
//   scripts/install.sh npm && node testnet/transcripts/record-rxdb.mjs

import { fileURLToPath } from 'node:url';
import { record, require } from './recorder.mjs';

const { startSignalingServerSimplePeer } = require('rxdb/plugins/replication-webrtc');
const PORT = 20_417;
const room = 'heroes';

const join = (name, to = room) => [name, 'send', JSON.stringify({ type: 'join', room: to })];
const enters = (name, to = room) => [[name, 'open', '/'], join(name, to)];
const signal = (from, to, data, inRoom = room, by = from) => [from, 'send', JSON.stringify(
  { type: 'signal', senderPeerId: `<${by}>`, receiverPeerId: `<${to}>`, room: inRoom, data, connectionId: 'k3' },
)];

const scenes = [
  { name: 'two meet', steps: [
    ...enters('a'), ...enters('b'),
    signal('a', 'b', { type: 'offer', sdp: 'v=0\r\né <&>' }), signal('b', 'a', { type: 'answer', sdp: 'v=0' }),
    signal('b', 'a', { type: 'candidate', candidate: { candidate: 'candidate:1', sdpMLineIndex: 0, usernameFragment: null } }),
    ['a', 'send', '{"type":"ping"}'], ['b', 'close'], ['a', 'close'],
  ] },
  { name: 'a third comes and goes', steps: [...enters('a'), ...enters('b'), ...enters('c'), ['b', 'close'], join('a'), signal('a', 'c', 1), signal('a', 'b', 2)] },
  { name: 'a signal to itself', steps: [...enters('a'), signal('a', 'a', 1)] },
  { name: 'two rooms of one client', steps: [...enters('a', 'room one'), ...enters('b', 'room two'), join('a', 'room two'), signal('b', 'a', 1, 'room two'), ['a', 'close']] },
  { name: 'a signal to another room', steps: [...enters('a', 'room one'), ...enters('b', 'room two'), signal('a', 'b', 1, 'room one'), signal('a', 'b', 2, 'room two')] },
  { name: 'a signal before a join', steps: [['a', 'open', '/'], ...enters('b'), signal('a', 'b', 1)] },
  { name: 'a signal that names no room', steps: [...enters('a'), ...enters('b'), ['a', 'send', '{"type":"signal","senderPeerId":"<a>","receiverPeerId":"<b>","data":1}']] },
  { name: 'binary', steps: [['a', 'open', '/'], ['a', 'binary', JSON.stringify({ type: 'join', room })]] },
  { name: 'names of rooms', steps: [
    ...enters('six', '6chars'), ...enters('most', 'x'.repeat(99)), ...enters('astral', '😀😀😀'),
    ...enters('five', '5char'), ...enters('over', 'x'.repeat(100)), ...enters('few', '😀😀1'),
  ] },
  { name: 'not JSON', steps: [...enters('a'), ...enters('b'), ['b', 'send', 'garbage']] },
  { name: 'not an object', steps: [...enters('a'), ...enters('b'), ['b', 'send', '5']] },
  { name: 'unknown type', steps: [...enters('a'), ...enters('b'), ['b', 'send', '{"type":"bye"}']] },
  { name: 'no type', steps: [['a', 'open', '/'], ['a', 'send', '{}']] },
  { name: 'room that is no text', steps: [['a', 'open', '/'], ['a', 'send', '{"type":"join","room":123456}']] },
  { name: 'spoofed sender', steps: [...enters('a'), ...enters('b'), signal('b', 'a', 1, room, 'a')] },
];

console.log = () => {}; // the server tells of each disconnect
const { server } = await startSignalingServerSimplePeer({ port: PORT, host: '127.0.0.1' });
await record({
  url: `ws://127.0.0.1:${PORT}`,
  about: `startSignalingServerSimplePeer of rxdb ${require('rxdb/package.json').version}`,
  scenes,
  idOf: (text) => JSON.parse(text).yourPeerId,
  to: fileURLToPath(new URL('../../node/door/rxdb/testdata/reference.json', import.meta.url)),
});
process.exit(0);
