// Trystero's torrent strategy, as published, over two nodes: a tab on A and a tab on B send each other a message.
//
// The peer with the smaller id ignores offers while its own are outstanding, so each delay is tried in both id orders and
// with either node's tab first. Ids are random for each load: the tabs are opened first and told their parts by the ids they have.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { inTurn, newRoom, report, trysteroMeet, trysteroTabs } from './scenes.mjs';
import { startNodes } from './servers.mjs';

const SHORT = [0, 3, 20];
const FULL = [0, 0.1, 1, 3, 10, 20, 39, 44, 60, 100, 130];
const delays = process.env.E2E_FULL ? FULL : SHORT;

let nodes;
let browser;

before(async () => {
  nodes = await startNodes({ nodes: 3 });
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await nodes?.close();
});

for (const delay of delays) {
  // Within one delay the pairs wait at the same time: they are in rooms and contexts of their own.
  describe(delay === 0 ? 'both at once' : `${delay} s apart`, { concurrency: 4 }, () => {
    for (const [firstNode, secondNode] of [[0, 1], [1, 0]]) {
      if (delay === 0) {
        test(`smaller id on ${'AB'[firstNode]}`, (t) => meet(t, { delay, firstNode, secondNode, smallerFirst: true }));
        continue;
      }
      for (const smallerFirst of [true, false]) {
        test(`first on ${'AB'[firstNode]} with the ${smallerFirst ? 'smaller' : 'larger'} id, second on ${'AB'[secondNode]}`,
          (t) => meet(t, { delay, firstNode, secondNode, smallerFirst }));
      }
    }
  });
}

async function meet(t, { delay, firstNode, secondNode, smallerFirst }) {
  const [small, large] = await trysteroTabs(browser);
  const [one, two] = smallerFirst ? [small, large] : [large, small];
  try {
    const room = newRoom('pair');
    const began = await inTurn({
      delay,
      first: { tab: one.tab, begin: () => one.tab.call('join', { urls: [nodes.ws[firstNode]], room }) },
      second: { tab: two.tab, begin: () => two.tab.call('join', { urls: [nodes.ws[secondNode]], room }) },
    });
    report(t, 'messages both ways, since the second joined', await trysteroMeet(one, two, began));
  } finally {
    await Promise.all([one.tab.close(), two.tab.close()]);
  }
}

describe('clients that are not simply two', () => {
  test('a client on all three nodes at once is one peer', async (t) => {
    const [everywhere, onC] = await trysteroTabs(browser);
    try {
      const room = newRoom('several');
      const began = await inTurn({
        delay: 1,
        first: { tab: everywhere.tab, begin: () => everywhere.tab.call('join', { urls: nodes.ws, room }) },
        second: { tab: onC.tab, begin: () => onC.tab.call('join', { urls: [nodes.ws[2]], room }) },
      });
      report(t, 'messages both ways, since the second joined', await trysteroMeet(everywhere, onC, began));
      assert.deepEqual(await everywhere.tab.call('joins'), [onC.id]);
      assert.deepEqual(await onC.tab.call('joins'), [everywhere.id]);
    } finally {
      await Promise.all([everywhere.tab.close(), onC.tab.close()]);
    }
  });

  test('two clients on all three nodes at once meet once', async (t) => {
    const [one, two] = await trysteroTabs(browser);
    try {
      const room = newRoom('several');
      const join = (peer) => ({ tab: peer.tab, begin: () => peer.tab.call('join', { urls: nodes.ws, room }) });
      const began = await inTurn({ delay: 0, first: join(one), second: join(two) });
      report(t, 'messages both ways', await trysteroMeet(one, two, began));
      assert.deepEqual(await one.tab.call('joins'), [two.id]);
      assert.deepEqual(await two.tab.call('joins'), [one.id]);
    } finally {
      await Promise.all([one.tab.close(), two.tab.close()]);
    }
  });

  for (const passiveFirst of [true, false]) {
    test(`a passive peer meets an active one, the ${passiveFirst ? 'passive' : 'active'} one first`, async (t) => {
      const [passive, active] = await trysteroTabs(browser);
      try {
        const room = newRoom('passive');
        const quiet = { tab: passive.tab, begin: () => passive.tab.call('join', { urls: [nodes.ws[0]], room, passive: true }) };
        const loud = { tab: active.tab, begin: () => active.tab.call('join', { urls: [nodes.ws[1]], room }) };
        const began = await inTurn({ delay: 1, first: passiveFirst ? quiet : loud, second: passiveFirst ? loud : quiet });
        report(t, 'messages both ways, since the second joined', await trysteroMeet(passive, active, began));
      } finally {
        await Promise.all([passive.tab.close(), active.tab.close()]);
      }
    });
  }

  test('three peers on three nodes all meet', async (t) => {
    const peers = await trysteroTabs(browser, 3);
    try {
      const room = newRoom('three');
      const began = await Promise.all(peers.map((peer, i) => peer.tab.call('join', { urls: [nodes.ws[i]], room })));
      const [one, two, three] = peers;
      const pairs = [[one, two], [two, three], [one, three]];
      const took = await Promise.all(pairs.map(([a, b]) => trysteroMeet(a, b, Math.max(...began))));
      report(t, 'every pair has messages both ways', Math.max(...took));
    } finally {
      await Promise.all(peers.map((peer) => peer.tab.close()));
    }
  });
});
