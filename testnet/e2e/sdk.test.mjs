// The browser's SDK over two and three nodes: tabs that find each other, and what they then say.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { APART_FOR, MEET_WITHIN, newRoom, report } from './scenes.mjs';
import { meet, noFirefox, openPeers } from './sdk.mjs';
import { startNodes } from './servers.mjs';
import { apart, staysPending, within } from './wait.mjs';

const SIZE = 100_000_000;
const FILE_WITHIN = 150_000; // five times what it should take
const MESH_WITHIN = 60_000; // and this

let nodes;
let islands;
let peers;

before(async () => {
  nodes = await startNodes({ nodes: 3 });
  islands = await startNodes({ nodes: 2, federate: false });
  peers = await openPeers({ firefox: true });
});

after(async () => {
  await peers?.close();
  await nodes?.close();
  await islands?.close();
});

/** Runs `scene` with as many tabs of Chromium. */
const withTabs = (n, scene) => peers.play(Array(n).fill('Chromium'), scene);

describe('two tabs on two nodes', () => {
  for (const [first, second] of [[0, 1], [1, 0]]) {
    for (const delay of [0, 3]) {
      test(`first on ${'AB'[first]}, ${delay} s apart`, (t) => withTabs(2, async (one, two) => {
        const app = newRoom('sdk');
        const join = (tab, node, name) => tab.call('join', { urls: [nodes.ws[node]], app, name, secret: 'hunter2' });
        let began;
        if (delay === 0) {
          began = Math.max(...(await Promise.all([join(one, first, 'Ada'), join(two, second, 'Bob')])));
        } else {
          await join(one, first, 'Ada');
          await apart(delay);
          began = await join(two, second, 'Bob');
        }
        report(t, 'messages both ways, since the second joined', await meet(one, two, began));
        assert.deepEqual((await one.call('peers')).map((peer) => peer.name), ['Bob']);
        assert.deepEqual((await two.call('peers')).map((peer) => peer.name), ['Ada']);
      }));
    }
  }
});

test('pages that load the SDK from a node, each from its own', async () => {
  const tabs = await Promise.all([peers.chromium.open('blank'), peers.chromium.open('blank')]);
  try {
    const app = newRoom('sdk');
    const [one, two] = await within(MEET_WITHIN, 'both hear the other', Promise.all(tabs.map((tab, i) => tab.call('meets', {
      sdk: `${nodes.ws[i].replace('ws:', 'http:')}/sdk.js`, nodes: [nodes.ws[i]], app, says: `from ${i}`,
    }))));
    assert.deepEqual([one, two], ['from 1', 'from 0']);
  } finally {
    await Promise.all(tabs.map((tab) => tab.close()));
  }
});

describe('peers of two kinds on two nodes meet, talk and leave', () => {
  for (const pair of [
    ['Chromium', 'Go'],
    ['Go', 'Chromium'],
    ['Firefox', 'Chromium'],
    ['Chromium', 'Firefox'],
    ['Firefox', 'Go'],
    ['Go', 'Firefox'],
    ['Firefox', 'Firefox'],
  ]) {
    test(pair.join(', then '), { skip: pair.includes('Firefox') && noFirefox }, (t) => peers.play(pair, async (one, two) => {
      const app = newRoom('sdk');
      await one.call('join', { urls: [nodes.ws[0]], app, name: 'Ada', secret: 'hunter2' });
      const began = await two.call('join', { urls: [nodes.ws[1]], app, name: 'Bob', secret: 'hunter2' });
      report(t, 'messages both ways, since the second joined', await meet(one, two, began));
      assert.deepEqual((await one.call('peers')).map((peer) => peer.name), ['Bob']);
      assert.deepEqual((await two.call('peers')).map((peer) => peer.name), ['Ada']);
      const id = await one.call('id');
      const left = Date.now();
      await one.call('leave');
      await within(MEET_WITHIN, 'the second sees the first leave', two.call('loses', id), () => two.detail());
      report(t, 'gone', Date.now() - left);
    }));
  }
});

test('two tabs of one person are one id and two members; the key cannot be taken out', () => withTabs(2, async (one, other) => {
  const app = newRoom('sdk');
  const beside = await peers.chromium.openBeside(one, 'sdk');
  await one.call('join', { urls: [nodes.ws[0]], app, name: 'one', kept: true });
  await beside.call('join', { urls: [nodes.ws[1]], app, name: 'beside', kept: true });
  await other.call('join', { urls: [nodes.ws[2]], app });
  const seen = await within(MEET_WITHIN, 'both are seen', other.call('sees', 2), () => other.detail());
  const id = await one.call('id');
  assert.deepEqual(seen.map((peer) => peer.id), [id, id]);
  assert.deepEqual(seen.map((peer) => peer.name).sort(), ['beside', 'one']);
  assert.equal(await beside.call('id'), id);
  await within(MEET_WITHIN, 'the two see each other', one.call('hears', id), () => one.detail());
  await other.call('sendTo', { id, text: 'to both' });
  await Promise.all([one, beside].map((tab) => within(MEET_WITHIN, 'both are told', tab.call('told', 'to both'), () => tab.detail())));
  assert.equal(await one.call('takesKey'), 'InvalidAccessError');
  assert.deepEqual(await other.call('iterated'), { ids: [id, id], over: false });
  await other.call('leave');
  assert.deepEqual(await other.call('iterated'), { ids: [id, id], over: true });
}));

test('a page comes back when the node that it names is gone', async () => {
  const net = await startNodes({ nodes: 2, processes: true });
  try {
    await withTabs(1, async (tab) => {
      const app = newRoom('sdk');
      for (;;) { // until the first node tells of the second
        const visit = await peers.chromium.openBeside(tab, 'sdk');
        await visit.call('join', { urls: [net.ws[0]], app });
        const kept = await visit.call('kept');
        await visit.call('leave');
        if (kept.includes(net.ws[1])) break;
      }
      await net.kill(0);
      const again = await peers.chromium.openBeside(tab, 'sdk');
      await again.call('join', { urls: [net.ws[0]], app });
      assert.equal(await again.call('node'), net.ws[1]);
    });
  } finally {
    await net.close();
  }
});

describe('100 MB arrive as they were sent', () => {
  for (const [from, to] of [['Chromium', 'Chromium'], ['Chromium', 'Go'], ['Go', 'Chromium'], ['Firefox', 'Chromium'], ['Go', 'Firefox']]) {
    const skip = [from, to].includes('Firefox') && noFirefox;
    test(`from ${from} to ${to}`, { skip }, (t) => peers.play([from, to], async (one, two) => {
      const app = newRoom('sdk');
      await one.call('join', { urls: [nodes.ws[0]], app });
      await meet(one, two, await two.call('join', { urls: [nodes.ws[1]], app }));
      const began = Date.now();
      const [sent, got] = await within(FILE_WITHIN, 'the bytes arrive', Promise.all([one.call('sends', SIZE), two.call('receives', SIZE)]),
        () => `from: ${one.detail()}; to: ${two.detail()}`);
      assert.equal(got, sent);
      report(t, `${SIZE} bytes`, Date.now() - began);
    }));
  }
});

const twenty = [...Array(3).fill('Chromium'), noFirefox ? 'Chromium' : 'Firefox', ...Array(16).fill('Go')];

test('4 tabs and 16 Go peers on three nodes: each sees all the others', (t) => peers.play(twenty, async (...all) => {
  const app = newRoom('sdk');
  const began = Math.max(...(await Promise.all(all.map((peer, i) => peer.call('join', { urls: [nodes.ws[i % 3]], app })))));
  const ids = await Promise.all(all.map((peer) => peer.call('id')));
  await Promise.all(all.map(async (peer, i) => {
    const seen = await within(MESH_WITHIN, `peer ${i} sees the others`, peer.call('sees', all.length - 1), () => peer.detail());
    assert.deepEqual(seen.map((other) => other.id).sort(), ids.filter((id) => id !== ids[i]).sort());
  }));
  report(t, '190 connections, since the last joined', Date.now() - began);
}));

test('one who leaves is gone, at once', (t) => withTabs(2, async (one, two) => {
  const app = newRoom('sdk');
  await one.call('join', { urls: [nodes.ws[0]], app });
  await meet(one, two, await two.call('join', { urls: [nodes.ws[1]], app }));
  const id = await two.call('id');
  const began = Date.now();
  await two.call('leave');
  await within(MEET_WITHIN, 'the other is gone', one.call('loses', id), () => one.detail());
  report(t, 'gone', Date.now() - began);
}));

test('those with another secret do not meet, nor do those on islands', () => withTabs(5, async (one, two, right, here, there) => {
  const app = newRoom('sdk');
  await one.call('join', { urls: [nodes.ws[0]], app, secret: 'hunter2' });
  await two.call('join', { urls: [nodes.ws[1]], app, secret: 'hunter3' });
  await here.call('join', { urls: [islands.ws[0]], app, secret: 'hunter2' });
  await there.call('join', { urls: [islands.ws[1]], app, secret: 'hunter2' });
  const ids = await Promise.all([one, there].map((tab) => tab.call('id')));
  const alone = Promise.all([staysPending(APART_FOR, two.call('hears', ids[0])), staysPending(APART_FOR, here.call('hears', ids[1]))]);
  await meet(one, right, await right.call('join', { urls: [nodes.ws[1]], app, secret: 'hunter2' }));
  assert.deepEqual(await alone, [true, true]);
}));
