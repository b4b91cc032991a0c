// Connections over a node and over a channel that are both in memory: what comes, and in which order.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Attempt, Sink } from '../src/attempt.ts';
import { ascii, type Bytes } from '../src/bytes.ts';
import type { Init } from '../src/codec.ts';
import { Connection, type ConnectionHost } from '../src/connection.ts';
import { PeerserverError } from '../src/errors.ts';
import { Pieces } from '../src/pieces.ts';
import { Control, type Of, Piece } from '../src/wire.ts';

const text = (data: Uint8Array) => new TextDecoder().decode(data);

/** Waits until it is so. */
async function until(ready: () => boolean): Promise<void> {
  for (let i = 0; !ready(); i++) {
    assert.ok(i < 3000, 'it does not come to be so');
    await sleep(10);
  }
}

/** Both ends of an open attempt. Channel 0 is faster than channel 1. */
function attempts(): [Attempt, Attempt] {
  const sinks: (Sink | undefined)[] = [];
  const held: [to: number, channel: number, data: Bytes][] = [];
  const carry = (to: number, channel: number, data: Bytes) => (sinks[to] ? sinks[to]?.(channel, data) : held.push([to, channel, data]));
  const end = (own: number) => ({
    send: async (channel: number, data: Uint8Array) => {
      const bytes = data.slice();
      setTimeout(() => carry(1 - own, channel, bytes), channel === 0 ? 1 : 20);
    },
    attach: (sink: Sink) => {
      sinks[own] = sink;
      for (const [to, channel, data] of held.splice(0)) {
        if (to === own) sink(channel, data);
        else held.push([to, channel, data]);
      }
    },
  }) as unknown as Attempt;
  return [end(0), end(1)];
}

class End implements ConnectionHost {
  readonly heard: string[] = [];
  readonly said: Of<typeof Control>[] = [];
  readonly events: string[] = [];
  connection = new Connection(this);
  other: End | undefined;
  lost = (_: number) => false;
  refused = (_: number): PeerserverError | undefined => undefined;
  #posted = 0;

  async post(piece: Init<typeof Piece.fields>): Promise<void> {
    const n = this.#posted++;
    const refused = this.refused(n);
    if (refused) throw refused;
    const bytes = Piece.encode(piece);
    if (!this.lost(n)) setTimeout(() => this.other?.piece(Piece.decode(bytes)), 2);
  }

  piece(piece: Of<typeof Piece>): void {
    if (piece.sequence === 1n) this.connection.relay();
    this.connection.piece(piece);
  }

  opened(): void { this.events.push('opened'); }
  upgraded(): void { this.events.push('upgraded'); }
  message(data: Bytes): void { this.heard.push(text(data)); }
  control(said: Of<typeof Control>): void { this.said.push(said); }
  broken(): void { this.events.push('broken'); }

  replaced(connection: Connection, attempt: Attempt, rest: Of<typeof Control>): void {
    this.events.push('replaced');
    connection.end();
    this.connection = new Connection(this);
    this.connection.direct(attempt, rest, connection.held);
  }
}

function ends(): [End, End] {
  const [one, two] = [new End(), new End()];
  [one.other, two.other] = [two, one];
  return [one, two];
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => String(from + i));

test('over nodes, from one side or from both: messages and Controls, once and in order', async () => {
  for (const both of [false, true]) {
    const [one, two] = ends();
    one.connection.relay();
    if (both) two.connection.relay();
    await until(() => one.connection.open && two.connection.open);
    for (const n of numbers(0, 50)) void one.connection.send(ascii(n));
    void one.connection.sendControl({ callCancel: { id: 7 } });
    void two.connection.send(ascii('x'.repeat(60_000)));
    await until(() => one.heard.length === 1 && two.heard.length === 50 && two.said.length === 1);
    assert.deepEqual(two.heard, numbers(0, 50));
    assert.equal(one.heard[0]?.length, 60_000);
    assert.deepEqual([one.events, two.events], [['opened'], ['opened']]);
    for (const end of [one, two]) end.connection.end();
  }
});

test('Pieces that are lost or refused come again; one that comes twice is taken once', async () => {
  const [one, two] = ends();
  one.lost = (n) => n === 3;
  two.lost = (n) => n % 3 === 1; // acknowledgements, most of them
  one.refused = (n) => (n === 5 ? new PeerserverError('rate', 'too much', 100) : undefined);
  one.connection.relay();
  await until(() => one.connection.open && two.connection.open);
  for (const n of numbers(0, 20)) void one.connection.send(ascii(n));
  await until(() => two.heard.length >= 20);
  await sleep(50);
  assert.deepEqual(two.heard, numbers(0, 20));
  for (const end of [one, two]) end.connection.end();
});

test('from nodes to a way of its own: nothing is lost, doubled or out of order', async () => {
  const [one, two] = ends();
  one.connection.relay();
  await until(() => one.connection.open && two.connection.open);
  one.lost = (n) => n % 2 === 0;
  for (const n of numbers(0, 100)) void one.connection.send(ascii(n));
  for (const n of numbers(0, 100)) void two.connection.send(ascii(n));
  void one.connection.send(ascii('x'.repeat(50_000))); // is cut in the middle
  await sleep(10);
  const [left, right] = attempts();
  one.connection.direct(left);
  for (const n of numbers(100, 200)) void one.connection.send(ascii(n));
  await sleep(30); // one has gone over before the other
  two.connection.direct(right);
  for (const n of numbers(100, 200)) void two.connection.send(ascii(n));
  await until(() => one.heard.length >= 200 && two.heard.length >= 201);
  await sleep(50);
  assert.deepEqual(one.heard, numbers(0, 200));
  assert.deepEqual(two.heard.filter((message) => message.length < 100), numbers(0, 200));
  assert.equal(two.heard[100]?.length, 50_000);
  assert.deepEqual([one.events, two.events], [['opened', 'upgraded'], ['opened', 'upgraded']]);
});

test('a side that wished to be relayed, and then was connected before the other heard of it', async () => {
  const [one, two] = ends();
  one.lost = () => true;
  one.connection.relay();
  await sleep(10);
  const [left, right] = attempts();
  one.connection.direct(left);
  two.connection.direct(right);
  void one.connection.send(ascii('hello'));
  await until(() => two.heard.length === 1);
  assert.deepEqual([one.events, two.events], [['opened'], ['opened']]);
});

test('one that has begun anew is another connection', async () => {
  const [one, two] = ends();
  one.connection.relay();
  await until(() => one.connection.open && two.connection.open);
  one.connection.end();
  one.connection = new Connection(one);
  const [left, right] = attempts();
  one.connection.direct(left);
  void one.connection.send(ascii('anew'));
  two.connection.direct(right);
  await until(() => two.heard.length === 1);
  assert.deepEqual(two.events, ['opened', 'upgraded', 'replaced', 'opened']);
  void two.connection.send(ascii('too'));
  await until(() => one.heard.length === 1);
});

test('what is held before Start is bounded', async () => {
  const [one] = ends();
  const [left, right] = attempts();
  one.connection.direct(left);
  right.attach(() => {});
  for (let i = 0; i < 80; i++) void right.send(0, new Uint8Array(60_000));
  await until(() => one.events.includes('broken'));
  assert.deepEqual(one.heard, []);
});

test('Pieces that break the rules', () => {
  const broken: string[] = [];
  const heard: Bytes[] = [];
  const make = () => new Pieces({ post: async () => {}, message: (_, data) => heard.push(data), broken: () => broken.push('broken') });
  const said = (piece: Init<typeof Piece.fields>) => Piece.decode(Piece.encode(piece));
  const data = new Uint8Array(16 << 10);

  const long = make(); // a message without end
  for (let n = 1n; n <= 5n; n++) long.take(said({ run: 1n, sequence: n, more: true, data }), false);
  assert.deepEqual(broken, ['broken']);

  const far = make(); // far ahead of what is expected
  for (let n = 2n; n < 5000n; n++) far.take(said({ run: 1n, sequence: n, data: data.subarray(0, 1) }), false);
  far.take(said({ run: 2n, sequence: 1n, data }), false); // of another run
  far.take(said({ run: 1n, sequence: 1n, channel: 2, data }), false);
  far.take(said({ run: 1n, sequence: 1n, data: new Uint8Array((16 << 10) + 1) }), false);
  assert.equal(heard.length, 0);
  far.take(said({ run: 1n, sequence: 1n }), false);
  assert.ok(heard.length > 1 && heard.length < 2000);
  far.close();
  long.close();
});

test('a sender waits when much is to be relayed, and is told when it is too much', async () => {
  const pieces = new Pieces({ post: async () => {}, message: () => {}, broken: () => {} });
  let waits = 0;
  let code = '';
  for (let i = 0; i < 200 && !code; i++) {
    waits++;
    pieces.send(0, new Uint8Array(60_000)).then(() => waits--, (err: PeerserverError) => { code = err.code; });
    await Promise.resolve().then(() => {}).then(() => {});
  }
  assert.equal(code, 'full');
  assert.ok(waits > 30, `${waits}`);
  pieces.close();
});
