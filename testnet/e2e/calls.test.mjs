// Calls between tabs, and between a tab and Go, on two nodes.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { openFirefox } from './firefox.mjs';
import { Program } from './program.mjs';
import { MEET_WITHIN, newRoom, report } from './scenes.mjs';
import { noFirefox } from './sdk.mjs';
import { startNodes } from './servers.mjs';
import { within } from './wait.mjs';

let nodes;
let browser;
let firefox;

before(async () => {
  nodes = await startNodes({ nodes: 2 });
  browser = await openBrowser();
  firefox = noFirefox ? undefined : await openFirefox();
});

after(async () => {
  await Promise.all([browser?.close(), firefox?.close()]);
  await nodes?.close();
});

/** Runs `scene` with tabs of these names, which are connected to each other. Fox's is one of Firefox. */
async function withTabs(names, scene) {
  const app = newRoom('calls');
  const tabs = await Promise.all(names.map((name) => (name === 'Fox' ? firefox : browser).open('calls')));
  try {
    await Promise.all(tabs.map((tab, i) => tab.call('join', { urls: [nodes.ws[i % 2]], app, name: names[i] })));
    await sees(tabs, names.length - 1);
    await scene(app, ...tabs);
  } finally {
    await Promise.all(tabs.map((tab) => tab.close()));
  }
}

const sees = (tabs, n) => Promise.all(tabs.map((tab) => within(MEET_WITHIN, `it sees ${n}`, tab.call('sees', n), () => tab.detail())));

describe('two tabs', () => {
  test('values, errors and progress', () => withTabs(['Ada', 'Bob'], async (_app, ada) => {
    const call = (path, more) => within(MEET_WITHIN, path, ada.call('call', { name: 'Bob', path, ...more }), () => ada.detail());
    assert.deepEqual(await call('m.name'), { value: 'Bob', progress: [] });
    assert.deepEqual(await call('m.add', { args: [1, 2] }), { value: 3, progress: [{ sum: 1 }, { sum: 3 }] });
    assert.deepEqual((await call('__echo__', { raw: 900_000 })).value, { bytes: 900_000, of: 9 });
    assert.deepEqual((await call('__echo__', { raw: (1 << 20) + 1 })).error.code, 'too_large');
    assert.deepEqual((await call('m.raw', { args: 1 << 20 })).value, { bytes: 1 << 20, of: 7 });
    assert.deepEqual((await call('m.jam')).error, { name: 'RemoteError', code: 'jam', message: 'paper', data: [3] });
    assert.equal((await call('m.nobody')).error.code, 'unknown_command');
  }));

  test('one gives up, and the other is told', () => withTabs(['Ada', 'Bob'], async (_app, ada, bob) => {
    const { error } = await ada.call('call', { name: 'Bob', path: 'm.wait', timeout: 100 });
    assert.equal(error.name, 'TimeoutError');
    await within(MEET_WITHIN, 'Bob is told', (async () => {
      while ((await bob.call('seen')).length < 2);
    })());
    assert.deepEqual(await bob.call('seen'), ['runs', 'aborted']);
  }));

  test('a stream of 10,000 values', (t) => withTabs(['Ada', 'Bob'], async (_app, ada) => {
    const began = Date.now();
    const all = await within(60_000, 'all values come', ada.call('stream', { name: 'Bob', path: 'm.count', args: 10_000 }), () => ada.detail());
    assert.deepEqual(all, { n: 10_000 });
    report(t, '10,000 values', Date.now() - began);
    assert.deepEqual(await ada.call('stream', { name: 'Bob', path: 'm.count', args: 1e9, stopAt: 100 }), { n: 100 });
  }));
});

test('Firefox calls Chromium, and Chromium calls Firefox', { skip: noFirefox }, () => withTabs(['Fox', 'Ada'], async (_app, fox, ada) => {
  for (const [tab, name] of [[fox, 'Ada'], [ada, 'Fox']]) {
    const call = (path, more) => within(MEET_WITHIN, path, tab.call('call', { name, path, ...more }), () => tab.detail());
    assert.deepEqual(await call('m.add', { args: [1, 2] }), { value: 3, progress: [{ sum: 1 }, { sum: 3 }] });
    assert.deepEqual((await call('__echo__', { raw: 900_000 })).value, { bytes: 900_000, of: 9 });
    assert.deepEqual((await call('m.jam')).error, { name: 'RemoteError', code: 'jam', message: 'paper', data: [3] });
  }
}));

test('all are called, and one who has gone keeps nobody from answering', () => withTabs(['Ada', 'Bob', 'Carol'], async (_app, ada, bob) => {
  assert.deepEqual(await ada.call('callAll', { path: 'm.name' }), ['Bob: "Bob"', 'Carol: "Carol"']);
  await ada.call('keep');
  await bob.call('leave');
  await within(MEET_WITHIN, 'Bob is gone', ada.call('loses', 1), () => ada.detail());
  assert.deepEqual(await ada.call('callAll', { path: 'm.name', kept: true }), ['Bob: unknown_peer', 'Carol: "Carol"']);
}));

for (const name of ['Ada', 'Fox']) test(`a tab calls Go: ${name}`, { skip: name === 'Fox' && noFirefox }, () => withTabs([name], async (app, ada) => {
  const go = new Program(process.env.E2E_BIN, ['join', '--json', '--node', nodes.ws[1], '--name', 'Gopher', app], { stdin: 'pipe' });
  try {
    await sees([ada], 1);
    const call = (path, more) => within(MEET_WITHIN, path, ada.call('call', { name: 'Gopher', path, ...more }), () => `${ada.detail()}; ${go.log()}`);
    assert.deepEqual((await call('__echo__', { args: { é: [1, null] } })).value, { é: [1, null] });
    assert.equal((await call('__echo__')).value, null);
    assert.deepEqual((await call('__echo__', { raw: 900_000 })).value, { bytes: 900_000, of: 9 });
    assert.deepEqual((await call('__list_commands__')).value, ['__echo__', '__list_commands__', '__peers__']);
    const [me] = (await call('__peers__')).value;
    assert.deepEqual([me.id, me.name, me.path], [await ada.call('id'), name, 'direct']);
    assert.equal((await call('m.nobody')).error.code, 'unknown_command');
  } finally {
    await go.close();
  }
}));

test('Go calls tabs', () => withTabs(['Ada', 'Bob'], async (app, ada, bob) => {
  const call = async (...args) => {
    const go = new Program(process.env.E2E_BIN, ['call', '--json', '--node', nodes.ws[1], ...args]);
    const ended = await within(MEET_WITHIN, `call ${args.join(' ')}`, go.gone, () => go.log());
    return { ended, said: go.lines.map((line) => JSON.parse(line)) };
  };
  const id = await ada.call('id');
  const one = await call(app, id, 'm.add', '[1,2]');
  assert.equal(one.ended, 'exit code 0');
  assert.deepEqual(one.said.map(({ peer, name, progress, value, done }) => ({ peer, name, progress, value, done })), [
    { peer: id, name: 'Ada', progress: true, value: { sum: 1 }, done: undefined },
    { peer: id, name: 'Ada', progress: true, value: { sum: 3 }, done: undefined },
    { peer: id, name: 'Ada', progress: undefined, value: 3, done: true },
  ]);
  const all = await call(app, '*', 'm.name');
  assert.deepEqual(all.said.map(({ name, value }) => `${name} ${value}`).sort(), ['Ada Ada', 'Bob Bob']);
  const stream = await call('--stream', app, 'name:Bob', 'm.count', '1000');
  assert.deepEqual(stream.said.slice(0, -1).map(({ value }) => value), Array.from({ length: 1000 }, (_, i) => i));
  const raw = await call(app, 'name:Bob', 'm.raw', '900000');
  assert.deepEqual(Buffer.from(raw.said[0].bytes, 'base64'), Buffer.alloc(900_000, 7));
  const jam = await call(app, 'name:Ada', 'm.jam');
  assert.deepEqual([jam.ended, jam.said[0].error], ['exit code 1', { code: 'jam', text: 'paper', data: [3] }]);
  const late = await call('--timeout', '200ms', app, 'name:Ada', 'm.wait');
  assert.deepEqual([late.ended, late.said[0].error.code], ['exit code 1', 'timeout']);
  assert.deepEqual([await ada.call('seen'), await bob.call('seen')], [['runs', 'aborted'], []]);
}));
