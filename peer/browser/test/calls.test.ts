// Calls over a connection in memory: two engines, and one against a side that does not keep to the rules.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as tick, setTimeout as sleep } from 'node:timers/promises';
import { type CallOptions } from '../src/asked.ts';
import { callEach, Calls } from '../src/calls.ts';
import type { Init } from '../src/codec.ts';
import { Commands, type Handler, RemoteError } from '../src/commands.ts';
import { PeerserverError } from '../src/errors.ts';
import type { Peer } from '../src/peer.ts';
import { MAX_PART, MAX_VALUE } from '../src/values.ts';
import { Control } from '../src/wire.ts';

type Said = Init<typeof Control.fields>;

const nobody = { id: 'bob', session: '01', name: 'Bob', path: 'direct' } as unknown as Peer;

/** Two ends of a connection that carries 4 messages at a time, each copied as on a wire. */
function linked() {
  const commands = new Commands(() => [nobody]);
  const ends: Calls[] = [];
  let gone = false;
  const wire = (to: number) => {
    const queue: Uint8Array[] = [];
    const waiting: (() => void)[] = [];
    let busy = false;
    const carry = async () => {
      busy = true;
      for (let bytes = queue.shift(); bytes && !gone; bytes = queue.shift()) {
        await tick();
        ends[to]?.take(Control.decode(bytes));
        if (queue.length < 4) waiting.shift()?.();
      }
      busy = false;
    };
    return async (said: Said) => {
      if (gone) throw new PeerserverError('node_gone', 'the connection has ended');
      const bytes = Control.encode(said);
      assert.ok(bytes.length < 1 << 16);
      queue.push(bytes);
      if (!busy) void carry();
      if (queue.length >= 4) await new Promise<void>((resolve) => waiting.push(resolve));
    };
  };
  ends.push(new Calls(nobody, new Commands(() => []), wire(1)), new Calls(nobody, commands, wire(0)));
  const end = () => {
    gone = true;
    for (const one of ends) one.end();
  };
  return { one: ends[0] as Calls, commands, end };
}

/** An engine alone: what it sends is kept, and what is said to it is anything. */
function alone(send: (said: Said) => Promise<void> = async () => {}) {
  const sent: string[] = [];
  const commands = new Commands(() => []);
  const calls = new Calls(nobody, commands, (said) => {
    sent.push(short(said));
    return send(said);
  });
  return {
    calls, commands,
    says: (...all: Said[]) => {
      for (const said of all) calls.take(Control.decode(Control.encode(said)));
    },
    /** What came since the last time. */
    sees: async () => {
      for (let i = 0; i < 5; i++) await tick();
      return sent.splice(0);
    },
  };
}

function short({ call, callValue, callError, callCredit, callCancel }: Said): string {
  if (call) return `call ${call.id}`;
  if (callValue) return `value ${callValue.id} ${new TextDecoder().decode(callValue.value?.json?.[0])}`.trim();
  if (callError) return `error ${callError.id} ${callError.code}`;
  if (callCredit) return `credit ${callCredit.id} ${callCredit.values}`;
  return `cancel ${callCancel?.id}`;
}

const json = (text: string) => ({ json: [new TextEncoder().encode(text)] });
const bytes = (n: number) => ({ bytes: [new Uint8Array(n)] });

async function codeOf(run: Promise<unknown>): Promise<string> {
  try {
    await run;
    return 'ok';
  } catch (err) {
    if (err instanceof RemoteError) return err.code;
    if (err instanceof PeerserverError) return `here ${err.code}`;
    return (err as Error).name;
  }
}

async function all<T>(from: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const one of from) list.push(one);
  return list;
}

test('values there and back', async () => {
  const { one } = linked();
  const values = [
    undefined, null, 0, '', 'é'.repeat(100_000), [1, { a: [] }], { ['__proto__']: 1 },
    new Uint8Array(0), new Uint8Array([0, 1, 255]), new Uint8Array(MAX_PART), new Uint8Array(MAX_PART + 1), new Uint8Array(MAX_VALUE).fill(7),
  ];
  for (const value of values) assert.deepEqual(await one.call('__echo__', value), value);
  assert.deepEqual(await one.call('__echo__', new Uint16Array([258])), new Uint8Array([2, 1]));
  assert.equal(await codeOf(one.call('__echo__', new Uint8Array(MAX_VALUE + 1))), 'here too_large');
  assert.equal(await codeOf(one.call('__echo__', () => {})), 'here malformed');
  assert.equal(await codeOf(one.call('__echo__', 1n)), 'here malformed');
  assert.equal(await codeOf(one.call('../x')), 'here malformed');
  assert.deepEqual(await one.call('__peers__'), [{ id: 'bob', session: '01', name: 'Bob', path: 'direct' }]);
});

test('errors of handlers', async () => {
  const { one, commands } = linked();
  const cases: [string, Handler, string, string][] = [
    ['plain', () => { throw new Error('no ink'); }, 'failed', 'no ink'],
    ['long', () => { throw new Error('é'.repeat(1000)); }, 'failed', 'é'.repeat(512)],
    ['later', async () => { await tick(); throw new RemoteError('jam', 'paper', [3]); }, 'jam', 'paper'],
    ['big', () => { throw new RemoteError('jam', 'paper', new Uint8Array(MAX_PART + 1)); }, 'jam', 'paper'],
    ['text', () => { throw 'secret'; }, 'failed', 'internal'],
    ['sdk', () => { throw new PeerserverError('denied', 'not you'); }, 'denied', 'not you'],
    ['large', () => new Uint8Array(MAX_VALUE + 1), 'too_large', 'a value of 1048577 bytes is over 1048576'],
    ['nojson', () => 1n, 'malformed', 'this has no JSON'],
    ['send', (_, { send }) => send(1), 'malformed', 'send answers with a stream, and was called for one value'],
  ];
  for (const [path, handler, code, message] of cases) {
    commands.handle(path, handler);
    await assert.rejects(one.call(path), (err) => {
      assert.ok(err instanceof RemoteError);
      assert.deepEqual([err.code, err.message], [code, message]);
      if (path === 'later') assert.deepEqual(err.data, [3]);
      return true;
    });
  }
  assert.equal(await codeOf(one.call('constructor')), 'unknown_command');
});

test('commands of a room', async () => {
  const { one, commands } = linked();
  const files = { root: '/srv', get(this: { root: string }, name: unknown) { return `${this.root}/${String(name)}`; }, put: () => 2 };
  const remove = commands.handle('files', files);
  assert.equal(await one.call('files.get', 'a'), '/srv/a');
  assert.deepEqual(await one.call('__list_commands__'), ['__echo__', '__list_commands__', '__peers__', 'files.get', 'files.put']);
  for (const path of ['files.get', '__echo__', '', 'a b', 'é', 'x']) {
    assert.throws(() => commands.handle(path, path === 'x' ? {} : () => 1), PeerserverError, path);
  }
  remove();
  commands.handle('files.get', () => 'mine');
  remove();
  assert.deepEqual(await one.call('__list_commands__'), ['__echo__', '__list_commands__', '__peers__', 'files.get']);
});

test('a call is cancelled, or takes too long', async () => {
  const { one, commands } = linked();
  const seen: string[] = [];
  commands.handle('wait', (_, { signal }) => new Promise((_, reject) => {
    signal.addEventListener('abort', () => {
      seen.push('aborted');
      reject(signal.reason);
    });
    seen.push('runs');
  }));
  for (const stops of [
    (options: CallOptions) => one.call('wait', 1, options),
    (options: CallOptions) => all(one.stream('wait', 1, options)),
  ]) {
    const stop = new AbortController();
    const call = stops({ signal: stop.signal });
    while (seen.length === 0) await tick();
    stop.abort(new Error('enough'));
    await assert.rejects(call, { message: 'enough' });
    while (seen.length < 2) await tick();
    assert.deepEqual(seen.splice(0), ['runs', 'aborted']);
    assert.equal(await codeOf(stops({ timeout: 20 })), 'TimeoutError');
    while (seen.length < 2) await tick();
    seen.splice(0);
    assert.equal(await codeOf(stops({ signal: AbortSignal.abort() })), 'AbortError');
    assert.deepEqual(seen, []);
  }
});

test('the connection ends', async () => {
  const { one, commands, end } = linked();
  let runs = 0;
  commands.handle('wait', (_, { signal }) => new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => { runs--; resolve(); });
    runs++;
  }));
  const waiting = [codeOf(one.call('wait')), codeOf(all(one.stream('wait')))];
  while (runs < 2) await tick();
  end();
  assert.equal(runs, 0);
  assert.deepEqual(await Promise.all(waiting), ['here node_gone', 'here node_gone']);
  assert.equal(await codeOf(one.call('wait')), 'here node_gone');
});

test('what a handler does after that goes nowhere: the ids of the next connection are others', async () => {
  const it = alone();
  let done = (_: number) => {};
  it.commands.handle('wait', () => new Promise((resolve) => { done = resolve; }));
  it.says({ call: { id: 1, path: 'wait' } });
  await it.sees();
  it.calls.end();
  done(1);
  assert.deepEqual(await it.sees(), []);
});

test('progress and streams', async () => {
  const { one, commands } = linked();
  const stopped: unknown[] = [];
  commands.handle('count', async (n, { progress, send, signal }) => {
    signal.addEventListener('abort', () => stopped.push(signal.reason));
    for (let i = 0; i < Number(n); i++) {
      await progress({ i });
      await send(i);
    }
    return Number(n) % 2 === 1 ? 'odd' : undefined;
  });
  const heard: unknown[] = [];
  assert.deepEqual(await all(one.stream('count', 3, { onProgress: (value) => heard.push(value) })), [0, 1, 2, 'odd']);
  assert.deepEqual(heard, [{ i: 0 }, { i: 1 }, { i: 2 }]);
  assert.deepEqual(await all(one.stream('count', 0)), []);
  stopped.splice(0);
  let seen = 0;
  for await (const value of one.stream('count', 1e9)) {
    assert.equal(value, seen++);
    if (seen === 100) break;
  }
  while (stopped.length === 0) await tick();
});

test('a stream of 10,000 values waits for its consumer', async () => {
  const { one, commands } = linked();
  let [sent, taken, most] = [0, 0, 0];
  commands.handle('count', async (_, { send }) => {
    for (let i = 0; i < 10_000; i++) {
      await send(i);
      most = Math.max(most, ++sent - taken);
    }
  });
  for await (const value of one.stream('count')) {
    assert.equal(value, taken++);
    if (taken % 1000 === 0) await sleep(5);
  }
  assert.equal(taken, 10_000);
  assert.ok(most <= 33, `${most} were on their way`);
});

test('values that are sent at once do not mix', async () => {
  const { one, commands } = linked();
  commands.handle('both', async (_, { send }) => {
    await Promise.all([send(new Uint8Array(100_000).fill(1)), send(new Uint8Array(100_000).fill(2))]);
    return 'x'.repeat(100_000);
  });
  const got = await all(one.stream('both'));
  assert.deepEqual(got, [new Uint8Array(100_000).fill(1), new Uint8Array(100_000).fill(2), 'x'.repeat(100_000)]);
});

test('what is sent after the answer, or without waiting, hurts nobody', async () => {
  const { one, commands } = linked();
  let late: unknown;
  commands.handle('rash', (_, { send, progress }) => {
    for (let i = 0; i < 100; i++) void send(new Uint8Array(100_000));
    setTimeout(() => progress(1).catch((err: unknown) => { late = err; }), 5);
    return 1;
  });
  assert.equal(await codeOf(all(one.stream('rash'))), 'failed'); // a value was cut off
  while (!late) await sleep(1);
  assert.equal(await one.call('__echo__', 2), 2);
});

test('many calls at once, and too many', async () => {
  const { one, commands } = linked();
  let release = () => {};
  const gate = new Promise<void>((resolve) => { release = resolve; });
  let running = 0;
  commands.handle('wait', async (n) => {
    running++;
    await gate;
    return n;
  });
  const first = Array.from({ length: 64 }, (_, i) => one.call('wait', i));
  while (running < 64) await tick();
  assert.equal(await codeOf(one.call('wait')), 'busy');
  release();
  assert.deepEqual(await Promise.all(first), Array.from({ length: 64 }, (_, i) => i));
  const again = async () => {
    for (let i = 0; i < 10; i++) assert.equal(await one.call('wait', i), i);
  };
  await Promise.all(Array.from({ length: 64 }, again));

  const quiet = alone();
  const pending = Array.from({ length: 256 }, () => codeOf(quiet.calls.call('x')));
  assert.equal(await codeOf(quiet.calls.call('x')), 'here full');
  quiet.calls.end();
  assert.ok((await Promise.all(pending)).every((code) => code === 'here node_gone'));
});

test('one that is dead does not keep the others from answering', async () => {
  const peers = [{ id: 'a' }, { id: 'b' }, { id: 'c' }] as unknown as Peer[];
  const got = await callEach([...peers, ...peers], async (peer) => {
    if (peer.id === 'b') throw new PeerserverError('node_gone', 'the connection has ended');
    return peer.id;
  });
  assert.deepEqual([...got.values()].map(({ value, error }) => value ?? (error as PeerserverError).code), ['a', 'node_gone', 'c']);
});

test('a hostile caller', async () => {
  const echo = (id: number, args?: Said['call'] extends infer C ? (C extends { args?: infer A } ? A : never) : never, more = false) => (
    { call: { id, path: '__echo__', args, more } }
  );
  const deep = Array.from({ length: 20 }, (_, i) => echo(1, json((i < 10 ? '[' : ']').repeat(10_000)), i < 19));
  const large = Array.from({ length: 32 }, () => echo(1, bytes(MAX_PART), true));
  const cases: [string, Said[], string[]][] = [
    ['as it should be', [echo(1, json('1')), echo(7, json('2'))], ['value 1 1', 'value 7 2']],
    ['id 0', [echo(0, json('1'))], []],
    ['an id again', [echo(2, json('1')), echo(2, json('2')), echo(1, json('3'))], ['value 2 1']],
    ['no path', [{ call: { id: 1 } }], ['error 1 malformed']],
    ['a path of the prototype', [{ call: { id: 1, path: 'constructor' } }], ['error 1 unknown_command']],
    ['no JSON', [echo(1, json('{'))], ['error 1 malformed']],
    ['JSON that is too deep to say again', deep, ['error 1 malformed']],
    ['parts of nothing', [...Array.from({ length: 1000 }, () => echo(1, json(''), true)), echo(1, json('1'))], ['value 1 1']],
    ['parts of two kinds', [echo(1, json('1'), true), echo(1, bytes(1)), echo(1, bytes(1))], ['error 1 malformed']],
    ['a part of nothing', [echo(1, undefined, true), echo(1)], ['error 1 malformed']],
    ['nothing after a part', [echo(1, json('1'), true), echo(1)], ['error 1 malformed']],
    ['cancelled between parts', [echo(1, json('1'), true), { callCancel: { id: 1 } }, echo(1, json('1'))], []],
    ['answers to nothing', [{ callValue: { id: 1, last: true } }, { callError: { id: 2 } }, { callProgress: { id: 3 } }, {}], []],
    ['too large', [...large, echo(1, bytes(1), true), echo(1, bytes(1))], ['error 1 too_large']],
    ['too much of all', Array.from({ length: 17 * 32 }, (_, i) => echo(1 + Math.floor(i / 32), bytes(MAX_PART), true)), ['error 17 busy']],
    ['too many', Array.from({ length: 65 }, (_, i) => echo(i + 1, bytes(1), true)), ['error 65 busy']],
  ];
  for (const [name, said, sees] of cases) {
    const it = alone();
    it.says(...said);
    assert.deepEqual(await it.sees(), sees, name);
    it.calls.end();
  }
  const stuck = alone(() => new Promise(() => {}));
  for (let id = 1; id <= 10_000; id++) stuck.says(echo(id));
  const sent = await stuck.sees();
  assert.ok(sent.length <= 64 + 256, `${sent.length} answers wait`);
  const unread = alone(() => new Promise(() => {}));
  for (let id = 1; id <= 1000; id++) {
    unread.says(echo(id));
    await tick();
  }
  assert.equal((await unread.sees()).length, 256 + 256);
});

test('credit that is never given', async () => {
  const it = alone();
  let made = 0;
  it.commands.handle('count', async (_, { send }) => {
    for (;;) await send(++made);
  });
  it.says({ call: { id: 1, path: 'count', credit: 2 } });
  assert.deepEqual(await it.sees(), ['value 1 1', 'value 1 2']);
  it.says({ callCredit: { id: 1, values: 1 } }, { callCredit: { id: 2, values: 9 } }, { callCredit: { id: 1 } });
  assert.deepEqual(await it.sees(), ['value 1 3']);
  it.says({ callCancel: { id: 1 } }, { callCancel: { id: 1 } });
  assert.deepEqual(await it.sees(), ['error 1 cancelled']);
  assert.equal(made, 4);
});

test('hostile answers', async () => {
  const value = (v: ReturnType<typeof bytes> | ReturnType<typeof json> | undefined, more = false, last = false): Said => (
    { callValue: { id: 1, value: v, more, last } }
  );
  const cases: [string, boolean, Said[], string, string[]][] = [
    ['as it should be', false, [value(json('1'), false, true)], 'ok', []],
    ['in parts', false, [value(json('1'), true), value(json('2'), false, true)], 'ok', []],
    ['twice', false, [value(undefined, false, true), value(undefined, false, true), { callError: { id: 1 } }], 'ok', []],
    ['a stream for a call', false, [value(json('1'))], 'here malformed', ['cancel 1']],
    ['more than it may', true, Array.from({ length: 100 }, () => value(json('1'))), 'here malformed', ['cancel 1']],
    ['too large', true, Array.from({ length: 40 }, () => value(bytes(MAX_PART), true)), 'here too_large', ['cancel 1']],
    ['no JSON', false, [value(json('{'), false, true)], 'here malformed', ['cancel 1']],
    ['parts of two kinds', false, [value(json('1'), true), value(bytes(1), false, true)], 'here malformed', ['cancel 1']],
    ['large progress', false, [{ callProgress: { id: 1, value: bytes(MAX_PART + 1) } }], 'here too_large', ['cancel 1']],
    ['an error without a code', true, [{ callError: { id: 1, data: json('{') } }], 'failed', []],
    ['a code that is too long', false, [{ callError: { id: 1, code: 'x'.repeat(100) } }], 'x'.repeat(64), []],
  ];
  for (const [name, stream, said, code, sees] of cases) {
    const it = alone();
    const result = codeOf(stream ? all(it.calls.stream('x')) : it.calls.call('x'));
    assert.deepEqual(await it.sees(), ['call 1'], name);
    it.says(...said);
    assert.equal(await result, code, name);
    assert.deepEqual(await it.sees(), sees, name);
  }
});
