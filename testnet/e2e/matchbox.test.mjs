// Clients of Matchbox's protocol on different nodes: who comes is announced to those who are there, before it is heard of.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { reference, startCluster } from './cluster.mjs';
import { MEET_WITHIN, PAIRS, inTurn, newRoom, report } from './scenes.mjs';
import { within } from './wait.mjs';

let nodes;
let browser;

before(async () => {
  [nodes, browser] = await Promise.all([startCluster({ door: 'matchbox', nodes: 3 }), openBrowser()]);
});

after(async () => {
  await browser?.close();
  await nodes?.close();
});

const door = (i, room) => `${nodes.ws[i]}${reference ? '' : '/matchbox'}/${room}`;

describe('two clients', { concurrency: 4 }, () => {
  for (const { delay, firstNode, secondNode, title } of PAIRS) {
    test(title, (t) => withTabs(2, async (one, two) => {
      const room = newRoom('pair');
      const began = await inTurn({ delay, first: joining(one, door(firstNode, room)), second: joining(two, door(secondNode, room)) });
      report(t, 'messages both ways, since the second came', await meet([one, two], began));
      if (delay > 0) {
        const id = await two.call('id');
        assert.equal((await one.call('told'))[1], `NewPeer ${id}`);
      }
      const gone = await one.call('id');
      const closed = Date.now();
      await one.close();
      report(t, 'PeerLeft, since the other closed', await within(MEET_WITHIN, 'it is told that the other left', two.call('left', gone), two.detail) - closed);
    }));
  }
});

test('five clients on three nodes', (t) => withTabs(5, async (...tabs) => {
  const room = newRoom('five');
  const began = await Promise.all(tabs.map((tab, i) => joining(tab, door(i % 3, room)).begin()));
  report(t, 'every pair has messages both ways', await meet(tabs, Math.max(...began)));
}));

test('node B is killed and comes back', (t) => withTabs(3, async (one, two, three) => {
  const room = newRoom('loss');
  const began = await inTurn({ delay: 1, first: joining(one, door(0, room)), second: joining(two, door(1, room)) });
  await meet([one, two], began);
  const [idOne, idTwo] = [await one.call('id'), await two.call('id')];
  const killed = Date.now();
  await nodes.kill(1);
  if (!reference) {
    const left = await within(5 * MEET_WITHIN, 'who was on A is told that the one on B left', one.call('left', idTwo), one.detail);
    report(t, 'PeerLeft for the one on B, since the kill', left - killed);
  }
  assert.equal(await one.call('ask', idTwo), `${idTwo} is`, 'the channel that was open did not live on');
  await nodes.restart(1);
  if (reference) return; // it has forgotten who was there, and its clients do not come back
  const came = await joining(three, door(1, room)).begin();
  const id = await three.call('id');
  const [toOne, toThree] = await within(MEET_WITHIN, 'who came to B when it was back meets the one on A',
    Promise.all([one.call('greetedBy', id), three.call('greetedBy', idOne)]), () => `${one.detail()}; ${three.detail()}`);
  report(t, 'who came to B when it was back has messages both ways with the one on A', Math.max(toOne.at, toThree.at) - came);
}));

async function withTabs(n, play) {
  const tabs = await Promise.all(Array.from({ length: n }, () => browser.open('matchbox')));
  try {
    await play(...tabs);
  } finally {
    await Promise.all(tabs.map((tab) => tab.close()));
  }
}

function joining(tab, url) {
  return { tab, begin: () => tab.call('join', { url }), ready: () => tab.call('id') };
}

/** Waits until each has been greeted by all others; answers the milliseconds since `began`. Each pair is announced once. */
async function meet(tabs, began) {
  const all = async () => {
    const ids = await Promise.all(tabs.map((tab) => tab.call('id')));
    const heard = await Promise.all(tabs.flatMap((tab, i) => ids.filter((id) => id !== ids[i]).map(async (id) => {
      const { text, at } = await tab.call('greetedBy', id);
      assert.equal(text, `hello ${ids[i]} from ${id}`);
      return at;
    })));
    return { ids, last: Math.max(...heard) };
  };
  const { ids, last } = await within(MEET_WITHIN, 'all are greeted by all', all(), () => tabs.map((tab) => tab.detail()).join('; '));
  const announced = (await Promise.all(tabs.map((tab) => tab.call('told')))).map((told) => told.filter((event) => event.startsWith('NewPeer')));
  assert.equal(announced.flat().length, (ids.length * (ids.length - 1)) / 2, announced.join(' | '));
  return last - began;
}
