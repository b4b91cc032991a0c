// Records sessions of npm's `peer`, the reference server, with plain WebSocket clients:
//
//     node testnet/transcripts/record-peerjs.mjs > node/door/peerjs/testdata/transcripts.json
//
// A Go test replays them against our door. To be run by hand, when a new version of `peer` is out; its version is in the
// file. The packages are those of testnet/e2e.

import { once } from 'node:events';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const e2e = createRequire(new URL('../e2e/package.json', import.meta.url));
const { PeerServer } = e2e('peer');
const { WebSocket } = e2e('ws');
const version = JSON.parse(readFileSync(new URL('../e2e/node_modules/peer/package.json', import.meta.url))).version;

const QUIET = 150; // ms without anything: all that an action causes at once has come
const EXPIRED = 8000; // 5 s, and the server looks once a second

/** One session: what is done, and what comes of it, in order. */
class Session {
  constructor(base) {
    this.base = base;
    this.steps = [];
    this.sockets = new Map();
    this.last = Date.now();
  }

  note(step) {
    this.last = Date.now();
    this.steps.push(step);
  }

  async quiet() {
    this.last = Date.now();
    while (Date.now() - this.last < QUIET) await sleep(10);
  }

  /** A client that connects with these parameters; those that are undefined are left out. */
  async connect(name, parameters) {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(parameters)) if (value !== undefined) query.set(key, value);
    this.note({ connect: name, query: String(query) });
    const socket = new WebSocket(`ws://${this.base}/peerjs?${query}`);
    this.sockets.set(name, socket);
    socket.on('message', (data) => this.note({ to: name, frame: String(data) }));
    socket.on('close', (code) => this.note({ closed: name, code }));
    await once(socket, 'open');
    await this.quiet();
  }

  /** The usual client: id and token are made of its name. */
  peer(name, id = name, token = `token of ${name}`) {
    return this.connect(name, { key: 'peerjs', id, token, version: '1.5.5' });
  }

  async send(name, message, options) {
    const text = typeof message === 'string' ? message : JSON.stringify(message);
    this.note({ from: name, frame: text, ...(options?.binary && { binary: true }) });
    this.sockets.get(name).send(text, options);
    await this.quiet();
  }

  async close(name) {
    this.note({ close: name });
    const socket = this.sockets.get(name);
    socket.removeAllListeners('close');
    socket.close();
    await once(socket, 'close');
    await this.quiet();
  }

  async get(path, headers = {}) {
    const response = await fetch(`http://${this.base}${path}`, { headers });
    const body = await response.text();
    this.note({
      get: path,
      ...(headers.Origin && { origin: headers.Origin, allowed: response.headers.get('access-control-allow-origin') }),
      status: response.status,
      type: response.headers.get('content-type'),
      body,
    });
  }

  expired() {
    return sleep(EXPIRED);
  }
}

const sdp = (name) => ({
  sdp: { type: 'offer', sdp: `v=0\r\no=${name}` },
  type: 'data',
  connectionId: `dc_${name}`,
  label: 'x',
  reliable: false,
});
const candidate = (n) => ({
  candidate: { candidate: `candidate:${n}`, sdpMid: '0', sdpMLineIndex: 0 },
  type: 'data',
  connectionId: 'dc_1',
});
const NESTED = [[], [1, [2, { a: '}' }]], {}, { a: '\\', b: [] }];
const PAYLOADS = [undefined, null, false, 0, '', 'text "quoted" \u2028 \ud83d\ude00', -1.5, ...NESTED];
const GARBAGE = ['', 'hello', '{', '{"type":"OFFER"', 'null', '5', '"OFFER"', 'true', '[]', '[{"type":"OFFER","dst":"witness17"}]', '{}'];

/** Name, what happens, options of the server. Every session has ids of its own. */
const sessions = [
  [
    'a data connection',
    async (s) => {
      await s.peer('caller1');
      await s.peer('callee1');
      await s.send('caller1', { type: 'OFFER', payload: sdp('1'), dst: 'callee1' });
      await s.send('callee1', { type: 'ANSWER', payload: { ...sdp('1'), browser: 'chrome' }, dst: 'caller1' });
      await s.send('caller1', { type: 'CANDIDATE', payload: candidate(1), dst: 'callee1' });
      await s.send('callee1', { type: 'CANDIDATE', payload: candidate(2), dst: 'caller1' });
      await s.send('caller1', { type: 'HEARTBEAT' });
      await s.close('caller1');
      await s.send('callee1', { type: 'HEARTBEAT' });
    },
  ],
  [
    'parameters that are missing',
    async (s) => {
      await s.connect('no id', { key: 'peerjs', token: 't' });
      await s.connect('no token', { key: 'peerjs', id: 'x2' });
      await s.connect('no key', { id: 'x2', token: 't' });
      await s.connect('an empty id', { key: 'peerjs', id: '', token: 't' });
      await s.connect('nothing', {});
    },
  ],
  ['another key', async (s) => s.connect('stranger', { key: 'another', id: 'x3', token: 't' })],
  [
    'an id that is taken',
    async (s) => {
      await s.peer('holder', 'id4');
      await s.peer('thief', 'id4');
      await s.send('holder', { type: 'OFFER', payload: sdp('4'), dst: 'id4' });
      await s.close('holder');
      await s.peer('heir', 'id4');
    },
  ],
  [
    'the same token again, while the old socket lives',
    async (s) => {
      await s.peer('old', 'id5', 'one token');
      await s.peer('friend5');
      await s.peer('new', 'id5', 'one token');
      await s.send('friend5', { type: 'OFFER', payload: sdp('5'), dst: 'id5' });
      await s.close('old');
      await s.send('friend5', { type: 'CANDIDATE', payload: candidate(5), dst: 'id5' });
      await s.send('new', { type: 'ANSWER', payload: sdp('5'), dst: 'friend5' });
    },
  ],
  [
    'the same token again, later',
    async (s) => {
      await s.peer('first', 'id6', 'one token');
      await s.close('first');
      await s.peer('second', 'id6', 'one token');
      await s.send('second', { type: 'OFFER', payload: sdp('6'), dst: 'id6' });
    },
  ],
  [
    'messages for one who comes later',
    async (s) => {
      await s.peer('early7');
      await s.peer('other7');
      await s.send('early7', { type: 'OFFER', payload: sdp('7'), dst: 'late7' });
      await s.send('early7', { type: 'CANDIDATE', payload: candidate(1), dst: 'late7' });
      await s.send('early7', { type: 'CANDIDATE', payload: candidate(2), dst: 'late7' });
      await s.send('early7', { type: 'LEAVE', dst: 'late7' });
      await s.peer('late7');
      await s.send('other7', { type: 'OFFER', payload: sdp('8'), dst: 'late7' });
    },
  ],
  [
    'nobody comes',
    async (s) => {
      await s.peer('caller8');
      await s.peer('other8');
      await s.send('caller8', { type: 'OFFER', payload: sdp('8'), dst: 'nobody8' });
      await s.send('caller8', { type: 'CANDIDATE', payload: candidate(1), dst: 'nobody8' });
      await s.send('caller8', { type: 'CANDIDATE', payload: candidate(2), dst: 'nobody8' });
      await s.send('other8', { type: 'ANSWER', payload: sdp('8'), dst: 'nobody8' });
      await s.expired();
      await s.peer('nobody8');
    },
  ],
  [
    'nobody comes to any of two',
    async (s) => {
      await s.peer('caller9');
      await s.send('caller9', { type: 'OFFER', payload: sdp('9'), dst: 'nobody9' });
      await s.send('caller9', { type: 'OFFER', payload: sdp('9'), dst: 'noone9' });
      await s.expired();
    },
  ],
  [
    'LEAVE',
    async (s) => {
      await s.peer('leaver10');
      await s.peer('left10');
      await s.send('leaver10', { type: 'OFFER', payload: sdp('10'), dst: 'left10' });
      await s.send('leaver10', { type: 'LEAVE', dst: 'left10', payload: { why: 'over' } });
      await s.send('leaver10', { type: 'LEAVE', dst: 'nobody10' });
      await s.send('leaver10', { type: 'LEAVE' });
      await s.peer('follower', 'leaver10');
      await s.send('left10', { type: 'OFFER', payload: sdp('10'), dst: 'leaver10' });
    },
  ],
  [
    'what is sent after LEAVE',
    async (s) => {
      await s.peer('leaver11');
      await s.peer('left11');
      await s.send('leaver11', { type: 'LEAVE' });
      await s.send('leaver11', { type: 'OFFER', payload: sdp('11'), dst: 'left11' });
    },
  ],
  [
    'EXPIRE from a client',
    async (s) => {
      await s.peer('expirer12');
      await s.peer('expired12');
      await s.send('expirer12', { type: 'OFFER', payload: sdp('12'), dst: 'expired12' });
      await s.send('expirer12', { type: 'EXPIRE', dst: 'expired12' });
      await s.send('expirer12', { type: 'EXPIRE', dst: 'nobody12' });
    },
  ],
  [
    "src and other fields are the client's no more",
    async (s) => {
      await s.peer('liar13');
      await s.peer('victim13');
      await s.send('liar13', { type: 'OFFER', src: 'somebody', payload: sdp('13'), dst: 'victim13', extra: 1 });
      await s.send('liar13', '{"type":"HEARTBEAT","payload":1,"dst":"victim13","type":"CANDIDATE","payload":{"n":2}}');
      await s.send('liar13', '{"Type":"OFFER","type":"ANSWER","DST":"liar13","dst":"victim13"}');
      await s.send('liar13', '{ "\\u0074ype" : "\\u004fFFER" , "dst":\t"\\u0076ictim13",\n"payload" : null }');
    },
  ],
  [
    'payloads of every kind',
    async (s) => {
      await s.peer('sender14');
      await s.peer('receiver14');
      for (const payload of PAYLOADS) await s.send('sender14', { type: 'CANDIDATE', dst: 'receiver14', payload });
    },
  ],
  [
    'to oneself',
    async (s) => {
      await s.peer('lonely15');
      await s.send('lonely15', { type: 'OFFER', payload: sdp('15'), dst: 'lonely15' });
    },
  ],
  [
    'types that are unknown',
    async (s) => {
      await s.peer('odd16');
      await s.peer('even16');
      for (const type of ['OPEN', 'ERROR', 'ID-TAKEN', 'INVALID-KEY', 'offer', 'HELLO', '', 5, null, ['OFFER'], undefined])
        await s.send('odd16', { type, dst: 'even16', payload: 1 });
      await s.send('odd16', { type: 'OFFER', dst: 'even16', payload: 2 });
    },
  ],
  [
    'garbage',
    async (s) => {
      await s.peer('garbage17');
      await s.peer('witness17');
      for (const text of GARBAGE) await s.send('garbage17', text);
      await s.send('garbage17', { type: 'OFFER', dst: 'witness17', payload: 1 });
    },
  ],
  [
    'binary frames',
    async (s) => {
      await s.peer('binary18');
      await s.peer('text18');
      await s.send('binary18', { type: 'OFFER', dst: 'text18', payload: 1 }, { binary: true });
    },
  ],
  [
    'whom a message is for',
    async (s) => {
      await s.peer('sender19');
      for (const dst of [undefined, null, '', 0, false]) await s.send('sender19', { type: 'OFFER', dst, payload: 1 });
      for (const dst of [5, true, ['sender19'], { id: 'sender19' }]) await s.send('sender19', { type: 'LEAVE', dst });
      await s.send('sender19', { type: 'OFFER', dst: 'sender19', payload: 2 });
    },
  ],
  [
    'to an id that cannot be',
    async (s) => {
      await s.peer('sender20');
      await s.send('sender20', { type: 'OFFER', dst: '"no" id', payload: 1 });
      await s.send('sender20', { type: 'CANDIDATE', dst: '"no" id', payload: 1 });
      await s.expired();
    },
  ],
  [
    'an id that cannot be',
    async (s) => {
      await s.peer('odd id', '-id-', 't');
    },
  ],
  [
    'a message of one who has gone',
    async (s) => {
      await s.peer('gone22');
      await s.send('gone22', { type: 'OFFER', payload: sdp('22'), dst: 'late22' });
      await s.close('gone22');
      await s.peer('late22');
    },
  ],
  [
    'a second offer to one who does not come',
    async (s) => {
      await s.peer('caller23');
      await s.send('caller23', { type: 'OFFER', payload: sdp('23'), dst: 'nobody23' });
      await s.expired();
      await s.send('caller23', { type: 'OFFER', payload: sdp('23'), dst: 'nobody23' });
      await s.expired();
    },
  ],
  [
    'over HTTP',
    async (s) => {
      await s.get('/');
      await s.get('/peerjs/id?ts=17000000000000.5&version=1.5.5', { Origin: 'https://app.example' });
      await s.get('/peerjs/peers?ts=17000000000000.5&version=1.5.5', { Origin: 'https://app.example' });
      await s.get('/another/id');
      await s.get('/peerjs');
    },
  ],
  [
    'ids are listed',
    async (s) => {
      await s.get('/peerjs/peers');
      await s.peer('listed25');
      await s.peer('also25', 'also 25_listed-here');
      await s.get('/peerjs/peers', { Origin: 'https://app.example' });
      await s.close('listed25');
      await s.get('/peerjs/peers');
    },
    { allow_discovery: true },
  ],
  [
    'the server is full',
    async (s) => {
      await s.peer('one26');
      await s.peer('two26');
    },
    { concurrent_limit: 1 },
  ],
];

async function record([name, run, options = {}]) {
  const http = await new Promise((resolve) => {
    PeerServer({ port: 0, host: '127.0.0.1', ...options }, resolve).on('error', () => {}); // or garbage ends the process
  });
  const s = new Session(`127.0.0.1:${http.address().port}`);
  await run(s);
  for (const socket of s.sockets.values()) {
    socket.removeAllListeners();
    socket.terminate();
  }
  http.close();
  return { name, ...(Object.keys(options).length > 0 && { options }), steps: s.steps };
}

const recorded = await Promise.all(sessions.map(record));
process.stdout.write(JSON.stringify({ server: `peer ${version}`, sessions: recorded }, null, 1) + '\n');
process.exit(0); // the servers' timers never end
