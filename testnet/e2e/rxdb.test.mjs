// RxDB's replication by WebRTC, as published: databases of tabs on different nodes become the same.

import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { startCluster } from './cluster.mjs';
import { MEET_WITHIN, PAIRS, inTurn, newRoom, report } from './scenes.mjs';
import { within } from './wait.mjs';

let nodes;
let browser;

before(async () => {
  [nodes, browser] = await Promise.all([startCluster({ door: 'rxdb', nodes: 3 }), openBrowser()]);
});

after(async () => {
  await browser?.close();
  await nodes?.close();
});

const door = (i) => `${nodes.ws[i]}/rxdb`;

describe('two databases', { concurrency: 4 }, () => {
  for (const { delay, firstNode, secondNode, title } of PAIRS) {
    test(title, (t) => withTabs(['ada', 'bob'], async (ada, bob) => {
      const room = newRoom('pair');
      const began = await inTurn({
        delay,
        first: replicating(ada, { url: door(firstNode), room }),
        second: replicating(bob, { url: door(secondNode), room }),
      });
      report(t, 'each has the note of the other, since the second came', await same([ada, bob], began));
      await edits(ada, bob, 'changed on the one');
      await edits(bob, ada, 'changed on the other');
    }));
  }
});

test('three databases on three nodes', (t) => withTabs(['ada', 'bob', 'cem'], async (...people) => {
  const room = newRoom('three');
  const began = await Promise.all(people.map((person, i) => replicating(person, { url: door(i), room }).begin()));
  report(t, 'each has the notes of all', await same(people, Math.max(...began)));
}));

test('node B is killed and comes back', (t) => withTabs(['ada', 'bob', 'cem'], async (ada, bob, cem) => {
  const room = newRoom('loss');
  const began = await inTurn({
    delay: 1,
    first: replicating(ada, { url: door(0), room }),
    second: replicating(bob, { url: door(1), room }),
  });
  await same([ada, bob], began);
  const lost = bob.tab.signals.closed();
  await nodes.kill(1);
  await within(MEET_WITHIN, 'the tab on B sees its node go', lost);
  await edits(ada, bob, 'while B is away');
  await nodes.restart(1);
  const came = await replicating(cem, { url: door(1), room }).begin();
  report(t, 'who came to B when it was back has the notes of all', await same([ada, bob, cem], came));
}));

async function withTabs(names, play) {
  const people = await Promise.all(names.map(async (name) => ({ name, tab: await browser.open('rxdb') })));
  try {
    await play(...people);
  } finally {
    await Promise.all(people.map(({ tab }) => tab.close()));
  }
}

function replicating({ name, tab }, options) {
  return { tab, begin: () => tab.call('join', { name, ...options }), ready: () => tab.signals.frame('received', '"joined"') };
}

/** Waits until everybody has the notes that all of them wrote when they came; answers the milliseconds since `began`. */
async function same(people, began) {
  const reads = people.flatMap(({ tab }) => people.map(({ name }) => tab.call('reads', { id: name, text: `${name} was here` })));
  const got = await within(MEET_WITHIN, 'the databases are the same', Promise.all(reads), () => people.map(({ tab }) => tab.detail()).join('; '));
  return Math.max(...got.map(({ at }) => at)) - began;
}

async function edits(from, to, text) {
  await from.tab.call('write', { id: 'shared', text });
  await within(MEET_WITHIN, `${to.name} reads what ${from.name} wrote`, to.tab.call('reads', { id: 'shared', text }), to.tab.detail);
}
