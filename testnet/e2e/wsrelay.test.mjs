// Trystero over a WebSocket relay: tabs on different nodes send each other messages, though the topic that a peer is sent its
// offers by is known to one node alone.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { reference, startCluster } from './cluster.mjs';
import { MEET_WITHIN, PAIRS, inTurn, newRoom, report, trysteroMeet, trysteroTabs } from './scenes.mjs';
import { within } from './wait.mjs';

let nodes;
let browser;

before(async () => {
  [nodes, browser] = await Promise.all([startCluster({ door: 'wsrelay', nodes: 3 }), openBrowser()]);
});

after(async () => {
  await browser?.close();
  await nodes?.close();
});

const door = (i) => `${nodes.ws[i]}/ws-relay`;
const bare = (i) => nodes.ws[i];

describe('two peers', { concurrency: 4 }, () => {
  for (const pair of PAIRS) {
    for (const smallerFirst of [true, false]) {
      test(`${pair.title}, the ${smallerFirst ? 'smaller' : 'larger'} id first`, (t) => meet(t, { ...pair, smallerFirst }));
    }
  }
  test('the address alone, without a path', (t) => meet(t, { delay: 1, firstNode: 0, secondNode: 1, smallerFirst: true, url: bare }));
});

test('three peers on three nodes all meet', (t) => withPeers(3, async (...peers) => {
  const room = newRoom('three');
  const began = await Promise.all(peers.map((peer, i) => joining(peer, { urls: [door(i)], room }).begin()));
  const [one, two, three] = peers;
  const took = await Promise.all([[one, two], [two, three], [one, three]].map(([a, b]) => trysteroMeet(a, b, Math.max(...began))));
  report(t, 'every pair has messages both ways', Math.max(...took));
}));

test('two peers on all three nodes meet once', (t) => withPeers(2, async (one, two) => {
  const room = newRoom('several');
  const urls = reference ? [door(0)] : [0, 1, 2].map(door);
  const began = await inTurn({ delay: 1, first: joining(one, { urls, room }), second: joining(two, { urls, room }) });
  report(t, 'messages both ways, since the second came', await trysteroMeet(one, two, began));
  assert.deepEqual(await one.tab.call('joins'), [two.id]);
  assert.deepEqual(await two.tab.call('joins'), [one.id]);
}));

test('node B is killed and comes back', (t) => withPeers(3, async (onA, onB, newcomer) => {
  const room = newRoom('loss');
  const began = await inTurn({
    delay: 1,
    first: joining(onA, { urls: [door(0)], room }),
    second: joining(onB, { urls: [door(1)], room }),
  });
  await trysteroMeet(onA, onB, began);
  const lost = onB.tab.signals.closed();
  await nodes.kill(1);
  await within(MEET_WITHIN, 'the tab on B sees its node go', lost);
  assert.equal(await onA.tab.call('ask', { target: onB.id, text: 'are you there' }), `${onB.id} heard are you there`);
  const { length } = onB.tab.signals.texts.sent;
  await nodes.restart(1);
  // Who has announced itself long ago says so again only after a minute: it has to be there when the newcomer does.
  await within(MEET_WITHIN, 'the tab that was on B is back', onB.tab.signals.frame('sent', '"subscribe"', length), onB.tab.detail);
  const came = await joining(newcomer, { urls: [door(1)], room }).begin();
  report(t, 'who came to B when it was back has messages both ways with the one on A', await trysteroMeet(newcomer, onA, came));
  report(t, 'and with the one that B lost', await trysteroMeet(newcomer, onB, came));
}));

async function meet(t, { delay, firstNode, secondNode, smallerFirst, url = door }) {
  await withPeers(2, async (small, large) => {
    const [one, two] = smallerFirst ? [small, large] : [large, small];
    const room = newRoom('pair');
    const began = await inTurn({
      delay,
      first: joining(one, { urls: [url(firstNode)], room }),
      second: joining(two, { urls: [url(secondNode)], room }),
    });
    report(t, 'messages both ways, since the second came', await trysteroMeet(one, two, began));
  });
}

async function withPeers(n, play) {
  const peers = await trysteroTabs(browser, n, 'wsrelay');
  try {
    await play(...peers);
  } finally {
    await Promise.all(peers.map(({ tab }) => tab.close()));
  }
}

function joining({ tab }, options) {
  return { tab, begin: () => tab.call('join', options), ready: () => tab.signals.frame('sent', '"publish"') };
}
