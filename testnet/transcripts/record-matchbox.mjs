// Records node/door/matchbox/testdata/reference.json from matchbox_server, a Rust program:
//
//   cargo install matchbox_server --version 0.14.0 --root FOLDER
//   scripts/install.sh npm && MATCHBOX_SERVER=FOLDER/bin/matchbox_server node testnet/transcripts/record-matchbox.mjs

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { record } from './recorder.mjs';

const VERSION = '0.14.0';
const PORT = 20_418;

const says = (name, value) => [name, 'send', JSON.stringify(value)];
const signal = (from, to, data) => says(from, { Signal: { receiver: `<${to}>`, data } });
const enters = (name, to = '/chess') => [name, 'open', to];
const pair = [enters('a'), enters('b')];
const id = '01234567-89ab-4def-8123-456789abcdef';

const scenes = [
  { name: 'two meet', steps: [
    ...pair, signal('a', 'b', { Offer: 'v=0\r\né <&>' }), signal('b', 'a', { Answer: 'v=0' }),
    signal('b', 'a', { IceCandidate: '{"candidate":"candidate:1","sdpMLineIndex":0}' }), says('a', 'KeepAlive'), ['b', 'close'], ['a', 'close'],
  ] },
  { name: 'a third comes and goes', steps: [...pair, enters('c'), signal('a', 'c', 1), ['b', 'close'], signal('a', 'b', 2), signal('c', 'a', 3)] },
  { name: 'a signal to itself', steps: [enters('a'), signal('a', 'a', 1)] },
  { name: 'a signal to another room', steps: [enters('a', '/one'), enters('b', '/two'), signal('a', 'b', 1)] },
  { name: 'data of any kind', steps: [...pair, ...[null, false, 1.5, 'text', [], {}, { a: { b: [1] } }].map((data) => signal('a', 'b', data))] },
  { name: 'what is passed over', steps: [
    ...pair, ['a', 'send', 'garbage'], ['a', 'send', ''], ['a', 'send', 'null'], ['a', 'send', '5'], ['a', 'send', '[]'], ['a', 'send', '{}'],
    says('a', 'Signal'), says('a', 'keepalive'), says('a', { KeepAlive: 1 }), says('a', { Signal: null }), says('a', { Signal: {} }),
    says('a', { Signal: { receiver: '<b>' } }), says('a', { Signal: { data: 1 } }), says('a', { Signal: { receiver: 'b', data: 1 } }),
    says('a', { Signal: { receiver: ['<b>'], data: 1 } }), says('a', { Signal: { receiver: id, data: 1 } }), says('a', { Signal: { receiver: '<b>', data: 1 }, KeepAlive: null }),
    says('a', { signal: { receiver: '<b>', data: 1 } }), says('a', { Signal: { Receiver: '<b>', data: 1 } }), signal('a', 'b', 'still here'),
  ] },
  { name: 'what is taken', steps: [
    ...pair, says('a', { KeepAlive: null }), ['a', 'send', ' "KeepAlive"\n'], ['a', 'send', ' { "Signal" : { "receiver" : "<b>" , "data" : 1 } } '],
    says('a', { Signal: { receiver: '<b>', data: 2, more: 3 } }), says('a', { Signal: { receiver: 'urn:uuid:<b>', data: 4 } }), says('a', { Signal: { receiver: '{<b>}', data: 5 } }),
  ] },
  { name: 'a list for an object', steps: [...pair, says('a', { Signal: ['<b>', 1] })] },
  { name: 'binary', steps: [...pair, ['a', 'binary', '{"Signal":{"receiver":"<b>","data":1}}']] },
  { name: 'rooms by their path', steps: [
    enters('root', '/'), enters('again', '/'), enters('world', '/world'), enters('slash', '/a%2Fb'), enters('same', '/a%2fb'), enters('other', '/a'), enters('umlaut', '/%C3%A9'), enters('too', '/é'),
  ] },
  { name: 'rooms and queries', steps: [enters('a', '/q'), enters('b', '/q?x=1'), enters('c', '/q?next='), enters('d', '/q?next=two'), enters('e', '/q?next=-1'), enters('f', '/q?next=+2')] },
  { name: 'next 2', steps: [
    ...['a', 'b', 'c', 'd'].map((name) => enters(name, '/pairs?next=2')), signal('a', 'b', 1), signal('b', 'a', 2), signal('c', 'd', 3),
    ['a', 'close'], ['c', 'close'], ['d', 'close'], ['b', 'close'],
  ] },
  { name: 'next 3, one leaves and another takes its place', steps: [
    enters('a', '/trio?next=3'), enters('b', '/trio?next=3'), ['a', 'close'], enters('c', '/trio?next=3'), enters('d', '/trio?next=3'), enters('e', '/trio?next=3'),
  ] },
  { name: 'next is part of the name', steps: [
    enters('a', '/mix?next=2'), enters('b', '/mix'), enters('c', '/mix?next=3'), enters('d', '/mix?next=%2B2'), enters('e', '/mix'), enters('f', '/mix?next=2&next=3'),
  ] },
  { name: 'next 1', steps: [enters('a', '/solo?next=1'), enters('b', '/solo?next=1')] },
  { name: 'next 0', steps: [enters('a', '/none?next=0'), enters('b', '/none?next=0'), enters('c', '/none'), ['a', 'close']] },
  { name: 'a signal to another group', steps: [enters('a', '/far?next=2'), enters('b', '/far'), signal('a', 'b', 1)] },
  { name: 'the last of a group goes', steps: [enters('a', '/last?next=1'), enters('b', '/last?next=2'), enters('c', '/last?next=2'), enters('d', '/last?next=2'), ['b', 'close'], ['c', 'close']] },
];

const server = spawn(process.env.MATCHBOX_SERVER, [`127.0.0.1:${PORT}`], { stdio: ['ignore', 'pipe', 'inherit'] });
await once(server.stdout, 'data');
await new Promise((done) => setTimeout(done, 500));
await record({
  url: `ws://127.0.0.1:${PORT}`,
  about: `matchbox_server ${VERSION}`,
  scenes,
  idOf: (text) => JSON.parse(text).IdAssigned,
  to: fileURLToPath(new URL('../../node/door/matchbox/testdata/reference.json', import.meta.url)),
});
server.kill();
