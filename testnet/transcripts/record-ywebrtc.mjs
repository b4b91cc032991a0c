// Records node/door/ywebrtc/testdata/reference.json from the signalling server that y-webrtc's package has:
//
//   scripts/install.sh npm && node testnet/transcripts/record-ywebrtc.mjs

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { record } from './recorder.mjs';

const PORT = 20_418;
const home = new URL('../e2e/node_modules/y-webrtc/', import.meta.url);
const { version } = JSON.parse(readFileSync(new URL('package.json', home)));

const open = (name) => [name, 'open', '/'];
const subscribe = (name, ...topics) => [name, 'send', JSON.stringify({ type: 'subscribe', topics })];
const unsubscribe = (name, ...topics) => [name, 'send', JSON.stringify({ type: 'unsubscribe', topics })];
const publish = (name, topic, data) => [name, 'send', JSON.stringify({ type: 'publish', topic, data })];
const announce = (name, topic = 'room') => publish(name, topic, { type: 'announce', from: `id of ${name}` });
const signal = (name, to, signal) => publish(name, 'room', { to: `id of ${to}`, from: `id of ${name}`, type: 'signal', token: 1763750000000.25, signal });
const enters = (name, ...topics) => [open(name), subscribe(name, 'room', ...topics)];
const says = (name, ...texts) => texts.map((text) => [name, 'send', text]);

const scenes = [
  { name: 'two meet', steps: [
    ...enters('a'), announce('a'), ...enters('b'), announce('b'),
    signal('a', 'b', { type: 'offer', sdp: 'v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\né <&>' }),
    signal('b', 'a', { type: 'answer', sdp: 'v=0\r\n' }),
    signal('b', 'a', { type: 'candidate', candidate: { candidate: 'candidate:1', sdpMLineIndex: 0 } }),
    signal('a', 'b', { renegotiate: true }),
    ['a', 'close'], announce('b'),
  ] },
  { name: 'a password', steps: [...enters('a'), ...enters('b'), publish('a', 'room', 'cGFzc3dvcmQ='), publish('b', 'room', 'cGFzc3dvcmQ=')] },
  { name: 'the same again', steps: [...enters('a'), ...enters('b'), subscribe('a', 'room', 'room'), announce('a'), announce('a')] },
  { name: 'several topics', steps: [
    ...enters('a'), ...enters('b', 'other'), publish('b', 'other', 1), publish('a', 'other', 2), publish('a', "nobody's", 3),
    subscribe('a', 'other'), publish('a', 'other', 4),
  ] },
  { name: 'unsubscribe', steps: [
    ...enters('a', 'other'), ...enters('b', 'other'), unsubscribe('b', 'room', 'never subscribed'), announce('b'), publish('a', 'other', 1),
    unsubscribe('a', 'room', 'other'), announce('a'), publish('b', 'other', 2), subscribe('b', 'room'), announce('a'),
  ] },
  { name: 'ping', steps: [open('a'), ...says('a', '{"type":"ping"}', '{"type":"ping","more":[1]}'), ['a', 'binary', '{"type":"ping"}']] },
  { name: 'binary', steps: [open('a'), ['a', 'binary', '{"type":"subscribe","topics":["room"]}'], ['a', 'binary', '{"type":"publish","topic":"room","data":"é"}']] },
  { name: 'form', steps: [...enters('a'), ...says(
    'a',
    ' { "data" : [ 1 , 2.50 ] , "topic" : "room" , "more" : null , "type" : "publish" } ',
    '{"clients":99,"type":"publish","topic":"room","data":"the number is the server\'s"}',
    '{"type":"publish","topic":"\\u0072oom","data":"\\u00e9é"}',
    '{"type":"publish","type":"publish","topic":"other","topic":"room","data":"the last of two"}',
    '{"type":"publish","topic":"room"}',
  )] },
  { name: 'nothing comes of it', steps: [...enters('a'), ...says(
    'a',
    '{"type":"publish","data":"no topic"}', '{"type":"publish","topic":"","data":"an empty one"}',
    '{"type":"publish","topic":["room"],"data":"a list"}', '{"type":"publish","topic":7,"data":"a number"}',
    '{"type":"subscribe"}', '{"type":"subscribe","topics":[]}', '{"type":"subscribe","topics":null}',
    '{"type":"unheard of","topic":"room"}', '{"topic":"room"}', '{}', '[]', 'null', '7', '"ping"', '{"type":7}',
  ), announce('a')] },
  { name: 'topics that are not text', steps: [open('a'), ...says('a', '{"type":"subscribe","topics":[1,null,{},["x"],"mixed",""]}'), publish('a', 'mixed', 1)] },
  // It ends the server: this is the last one.
  { name: 'not JSON', steps: [...enters('a'), ...enters('b'), ...says('b', 'garbage')] },
];

const server = spawn(process.execPath, [fileURLToPath(new URL('bin/server.js', home))], { env: { ...process.env, PORT }, stdio: ['ignore', 'pipe', 'ignore'] });
await once(server.stdout, 'data');
await (await fetch(`http://127.0.0.1:${PORT}`)).text(); // it listens
await record({
  url: `ws://127.0.0.1:${PORT}`, about: `bin/server.js of y-webrtc ${version}`, scenes, idOf: () => undefined,
  to: fileURLToPath(new URL('../../node/door/ywebrtc/testdata/reference.json', import.meta.url)),
});
server.kill();
process.exit(0);
