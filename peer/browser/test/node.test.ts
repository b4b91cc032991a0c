// A connection to a node that says nothing any more, and nodes that are gone.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { mock, test } from 'node:test';
import { newIdentity } from '../src/crypto.ts';
import { Home, nodeOf } from '../src/home.ts';
import { connect, type NodeConnection } from '../src/node.ts';
import { type Of, ToNode, ToPeer } from '../src/wire.ts';

const key = generateKeyPairSync('ed25519');
const id = Uint8Array.from(Buffer.from(key.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url'));
const nonce = new Uint8Array(32);

/** A node in memory, that answers for as long as it is not `silent`. */
class Socket extends EventTarget {
  static silent = false;
  static proves = true;
  static beats = 0;
  static token = ''; // without which it refuses, if it has one
  binaryType = '';
  closed = false;

  constructor(url: string) {
    super();
    const denied = { refused: { code: 8, text: 'this node is private', retryAfter: 0 } };
    const open = Socket.token === '' || url === `ws://node/v1?token=${Socket.token}`;
    queueMicrotask(() => this.#say(open ? { challenge: { version: 1, node: id, nonce } } : denied));
  }

  send(bytes: Uint8Array): void {
    const said: Of<typeof ToNode> = ToNode.decode(bytes);
    if (said.beat) Socket.beats++;
    if (!Socket.silent) queueMicrotask(() => this.#say({ ref: said.ref, ...(said.login ? { welcome: this.#welcome(said.login) } : { done: {} }) }));
  }

  #welcome(login: { key: Uint8Array; nonce: Uint8Array }): { signature: Uint8Array } {
    const bytes = Buffer.concat([Buffer.from('peerserver/1/welcome'), nonce, login.key, login.nonce]);
    return { signature: Socket.proves ? Uint8Array.from(sign(null, bytes, key.privateKey)) : new Uint8Array(64) };
  }

  close(): void {
    this.closed = true;
  }

  #say(said: Parameters<typeof ToPeer.encode>[0]): void {
    this.dispatchEvent(Object.assign(new Event('message'), { data: ToPeer.encode(said).slice().buffer }));
  }
}

async function connected(): Promise<{ node: NodeConnection; pass: (ms: number) => Promise<void> }> {
  Socket.silent = false;
  Socket.beats = 0;
  const node = await connect('ws://node', await newIdentity(), Socket as unknown as typeof WebSocket);
  const pass = async (ms: number) => {
    for (let at = 0; at < ms; at += 500) {
      mock.timers.tick(500);
      for (let i = 0; i < 10; i++) await Promise.resolve();
    }
  };
  return { node, pass };
}

test('to say the name of a node is not enough to be it', async () => {
  Socket.proves = false;
  try {
    await assert.rejects(connected(), { code: 'signature' });
  } finally {
    Socket.proves = true;
  }
});

test('a private node is shown the token that its URL has, and says what it is otherwise', async () => {
  for (const [given, url, token] of [
    ['wss://a.example', 'wss://a.example', ''], ['https://a.example//', 'wss://a.example', ''], ['ws://[::1]:8787/', 'ws://[::1]:8787', ''],
    ['wss://a.example?token=xy-z', 'wss://a.example', 'xy-z'], ['wss://a.example:444/?token=xy-z', 'wss://a.example:444', 'xy-z'],
    ['wss://a.example/t/xy-z', 'wss://a.example', 'xy-z'], ['wss://a.example/t/xy-z/', 'wss://a.example', 'xy-z'],
    ['wss://a.example/else/', 'wss://a.example/else', ''], ['wss://a.example/t/', 'wss://a.example/t', ''],
  ]) assert.deepEqual(nodeOf(given ?? ''), { url, token });
  Socket.token = 'xy-z';
  const sockets = Socket as unknown as typeof WebSocket;
  const connecting = async (token?: string) => connect('ws://node', await newIdentity(), sockets, undefined, token);
  try {
    for (const token of [undefined, 'x']) await assert.rejects(connecting(token), { code: 'denied', message: 'this node is private' });
    const node = await connecting('xy-z');
    assert.equal(node.url, 'ws://node');
    node.close();
  } finally {
    Socket.token = '';
  }
});

test('a node that is silent is gone; one that answers is not', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  const clock = mock.method(performance, 'now', () => Date.now());
  try {
    const { node, pass } = await connected();
    await pass(120_000);
    assert.equal(node.closed, false);
    assert.ok(Socket.beats >= 11, `${Socket.beats} beats`);
    Socket.silent = true;
    let closed = 0;
    node.on('closed', () => closed++);
    await pass(20_000);
    assert.equal(closed, 0);
    await pass(20_000);
    assert.equal(closed, 1);
    await assert.rejects(node.ask({ beat: {} }), { code: 'node_gone' });
  } finally {
    clock.mock.restore();
    mock.timers.reset();
  }
});

test('a tab that slept does not take its node for gone; one whose network has changed finds out soon', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  let skew = 0;
  const clock = mock.method(performance, 'now', () => Date.now() + skew);
  try {
    const { node, pass } = await connected();
    skew = 3_600_000; // its timers did not run
    await pass(30_000);
    assert.equal(node.closed, false);
    node.doubt();
    await pass(4000);
    assert.equal(node.closed, false);
    Socket.silent = true;
    node.doubt();
    await pass(4000);
    assert.equal(node.closed, true);
  } finally {
    clock.mock.restore();
    mock.timers.reset();
  }
});

test('another network: the node is dialled anew at once, and nobody is told that it was lost', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  const clock = mock.method(performance, 'now', () => Date.now());
  try {
    const { node: other, pass } = await connected();
    other.close();
    const joined: NodeConnection[] = [];
    const home = new Home({
      nodes: ['ws://node'], identity: await newIdentity(), webSocket: Socket as unknown as typeof WebSocket, cache: false,
      join: async (node) => void joined.push(node),
    });
    const told: unknown[] = [];
    home.on('node', (node) => told.push(node?.url));
    home.on('lost', () => told.push('lost'));
    await home.enter();
    home.hurry();
    assert.deepEqual([told, joined[0]?.closed], [['ws://node', undefined], true]);
    await pass(500); // all the time that there is
    while (joined.length < 2) await new Promise((resolve) => setImmediate(resolve));
    await pass(0);
    home.close();
    assert.deepEqual(told.slice(0, 3), ['ws://node', undefined, 'ws://node']);
  } finally {
    clock.mock.restore();
    mock.timers.reset();
  }
});
