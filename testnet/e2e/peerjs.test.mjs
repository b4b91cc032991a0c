// PeerJS, as published: data and calls between tabs on different nodes, and ids that are unique on all of them.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { FAKE_DEVICES, openBrowser } from './browser.mjs';
import { reference, startCluster } from './cluster.mjs';
import { MEET_WITHIN, PAIRS, newRoom, report } from './scenes.mjs';
import { apart, within } from './wait.mjs';

/** How long a peer may take to be told that nobody has an id: five times what it should. */
const UNAVAILABLE_WITHIN = 30_000;
/** How long an id may stay taken after its node has died: five times what it should. */
const FREE_WITHIN = 30_000;

/** A key whose ids may be listed. */
const LISTED = 'listed';

let nodes;
let browser;

before(async () => {
  [nodes, browser] = await Promise.all([
    startCluster({ door: 'peerjs', nodes: 3, flags: ['--peerjs-discovery', LISTED] }),
    openBrowser({ flags: FAKE_DEVICES }),
  ]);
});

after(async () => {
  await browser?.close();
  await nodes?.close();
});

/** What a user writes of node i; with a key of its own it has a path of its own, for nodes have other things at the root. */
const server = (i, key) => ({ ...nodes.at[i], path: key && !reference ? '/peerjs-server' : '/', ...(key && { key }) });

describe('a data connection', { concurrency: 4 }, () => {
  for (const { delay, firstNode, secondNode, title } of PAIRS) {
    for (const chosen of [true, false]) {
      test(`${chosen ? 'chosen ids' : 'ids of the nodes'}, ${title}`, (t) => withTabs(2, async (one, two) => {
        const [first, second] = await inOrder(delay, [
          () => open(one, { ...server(firstNode), chosen: chosen && newRoom('first') }),
          () => open(two, { ...server(secondNode), chosen: chosen && newRoom('second') }),
        ]);
        const began = await two.call('connect', first.id);
        report(t, 'messages both ways, since the second called', await greet(one, first.id, two, second.id, began));
      }));
    }
  }

  test('a key of its own, and ids of the nodes', { skip: reference && 'the reference server has one key' }, (t) => withTabs(3, async (one, two, other) => {
    const key = newRoom('key');
    const [first, second] = await Promise.all([open(one, server(0, key)), open(two, server(1, key)), open(other, server(1))]);
    await other.call('connect', first.id);
    const began = await two.call('connect', first.id);
    report(t, 'messages both ways, since the second called', await greet(one, first.id, two, second.id, began));
    await within(UNAVAILABLE_WITHIN, 'who has another key does not find it', other.call('happened', 'peer-unavailable'), other.detail);
  }));

  for (const [callerNode, calleeNode] of [[0, 1], [1, 0]]) {
    test(`the caller on ${'AB'[callerNode]} calls 3 s before the other comes to ${'AB'[calleeNode]}`, (t) => withTabs(2, async (one, two) => {
      const id = newRoom('late');
      const caller = await open(one, server(callerNode));
      await one.call('connect', id);
      await apart(3);
      const callee = await open(two, { ...server(calleeNode), chosen: id });
      report(t, 'messages both ways, since it came', await greet(one, caller.id, two, id, callee.at));
    }));
  }
});

describe('a call', { concurrency: 2 }, () => {
  for (const [callerNode, calleeNode] of [[0, 1], [1, 0]]) {
    test(`from ${'AB'[callerNode]} to ${'AB'[calleeNode]}`, (t) => withTabs(2, async (one, two) => {
      const [caller, callee] = await Promise.all([open(one, server(callerNode)), open(two, server(calleeNode))]);
      const began = await one.call('call', callee.id);
      const seen = await within(MEET_WITHIN, 'picture and sound both ways', Promise.all([one.call('sees', callee.id), two.call('sees', caller.id)]),
        () => `${one.detail()}; ${two.detail()}`);
      for (const { tracks } of seen) assert.deepEqual(tracks, ['audio live', 'video live']);
      report(t, `picture and sound both ways (${seen.map(({ frames }) => frames).join(' and ')} frames), since the call`, Math.max(...seen.map(({ at }) => at)) - began);
    }));
  }
});

describe('ids', { concurrency: 3 }, () => {
  for (const [holder, other] of [[0, 1], [1, 0]]) {
    test(`one that is held on ${'AB'[holder]} is taken on ${'AB'[other]}`, (t) => withTabs(3, async (one, two, three) => {
      const id = newRoom('taken');
      await open(one, { ...server(holder), chosen: id });
      two.call('open', { ...server(other), chosen: id }).catch(() => {});
      await within(MEET_WITHIN, 'the second is told that its id is taken', two.call('happened', 'unavailable-id'), two.detail);
      assert.equal(await two.call('destroyed'), true);
      const caller = await open(three, server(2));
      const began = await three.call('connect', id);
      report(t, 'the first still has it: messages both ways, since a third called', await greet(one, id, three, caller.id, began));
    }));
  }

  test('of two who want one at the same time, one gets it', () => withTabs(3, async (one, two, three) => {
    const id = newRoom('wanted');
    const asks = [one, two].map((tab, i) => tab.call('open', { ...server(i), chosen: id }).then(() => 'open'));
    const refusals = [one, two].map((tab) => tab.call('happened', 'unavailable-id').then(() => 'taken'));
    for (const promise of [...asks, ...refusals]) promise.catch(() => {});
    const first = await within(MEET_WITHIN, 'both are told', Promise.all([0, 1].map((i) => Promise.race([asks[i], refusals[i]]))), one.detail);
    assert.deepEqual(first.sort(), ['open', 'taken']);
    const caller = await open(three, server(2));
    const began = await three.call('connect', id);
    const winner = (await one.call('destroyed')) ? two : one;
    await greet(winner, id, three, caller.id, began);
  }));

  for (const node of [0, 1]) {
    test(`who comes back on ${'AB'[node]} under its id is found there`, (t) => withTabs(2, async (one, two) => {
      const id = newRoom('back');
      const [, other] = await Promise.all([open(one, { ...server(node), chosen: id }), open(two, server(1 - node))]);
      await two.call('connect', id);
      await greet(one, id, two, other.id, 0);
      await one.call('disconnect');
      const back = await within(MEET_WITHIN, 'it is open again', one.call('reconnect'), one.detail);
      assert.equal(back.id, id);
      report(t, 'open again, since it asked', back.took);
      assert.equal(await two.call('ask', id), `${id} is`, 'the connection that was open did not live on');
      const third = await browser.open('peerjs');
      const caller = await open(third, server(1 - node));
      const began = await third.call('connect', id);
      report(t, 'messages both ways with who calls it then', await greet(one, id, third, caller.id, began));
      await third.close();
    }));
  }

  test('nobody has it', (t) => withTabs(1, async (tab) => {
    await open(tab, server(0));
    const began = await tab.call('connect', newRoom('nobody'));
    const at = await within(UNAVAILABLE_WITHIN, 'the caller is told', tab.call('happened', 'peer-unavailable'), tab.detail);
    report(t, 'peer-unavailable, since the call', at - began);
    assert.deepEqual((await tab.call('errors')).map(({ type }) => type), ['peer-unavailable']);
  }));
});

test('a key whose ids may be listed: all of three nodes', (t) => withTabs(3, async (...tabs) => {
  const key = reference ? 'peerjs' : LISTED;
  const mine = newRoom('listed');
  const opened = await Promise.all(tabs.map((tab, i) => open(tab, { ...server(i, key), chosen: `${mine}-${i}` })));
  const ids = opened.map(({ id }) => id);
  const began = Date.now();
  const complete = async (tab) => {
    for (;;) {
      const list = (await tab.call('list')).filter((id) => id.startsWith(mine)).sort();
      if (list.length >= ids.length) return list;
      await apart(0.1);
    }
  };
  for (const list of await within(MEET_WITHIN, 'each sees all', Promise.all(tabs.map(complete)))) assert.deepEqual(list, ids);
  report(t, 'all lists are complete', Date.now() - began);
}));

test('a key whose ids may not be listed', { skip: reference && 'the reference lists all keys or none' }, () => withTabs(1, async (tab) => {
  await open(tab, server(0));
  tab.call('list').catch(() => {});
  await within(MEET_WITHIN, 'the client says so', tab.call('happened', 'server-error'), tab.detail);
}));

test('node B is killed and comes back', (t) => withTabs(3, async (one, two, three) => {
  const [idOne, idTwo] = [newRoom('one'), newRoom('two')];
  await Promise.all([open(one, { ...server(0), chosen: idOne }), open(two, { ...server(1), chosen: idTwo })]);
  await two.call('connect', idOne);
  await greet(one, idOne, two, idTwo, 0);
  await nodes.kill(1);
  await within(MEET_WITHIN, 'the peer on B is told', two.call('happened', 'disconnected'), two.detail);
  assert.equal(await two.call('ask', idOne), `${idOne} is`, 'the connection that was open did not live on');
  await nodes.restart(1);
  const back = await within(MEET_WITHIN, 'it is open again', two.call('reconnect'), two.detail);
  assert.equal(back.id, idTwo);
  report(t, 'open again on the node that was started again, since it asked', back.took);
  const caller = await open(three, server(0));
  const began = await three.call('connect', idTwo);
  report(t, 'messages both ways with who calls it from A', await greet(two, idTwo, three, caller.id, began));
}));

test('the same id and token on another node take over', { skip: reference && 'the reference server never says OPEN to the second' }, (t) => withTabs(3, async (one, two, three) => {
  const [id, token] = [newRoom('moved'), 'atoken'];
  await open(one, { ...server(0), chosen: id, token });
  const { took } = await open(two, { ...server(1), chosen: id, token });
  report(t, 'open on B, since it asked', took);
  const caller = await open(three, server(2));
  const began = await three.call('connect', id);
  report(t, 'messages both ways with who calls it from C', await greet(two, id, three, caller.id, began));
}));

test('an id of a node that died is free again', { skip: reference && 'a reference server has no node to lose' }, (t) => withTabs(2, async (one, two) => {
  const id = newRoom('orphan');
  await open(one, { ...server(1), chosen: id });
  assert.equal(await two.call('tries', { ...server(0), chosen: id }), false, 'the id was not taken while its node lived');
  await nodes.kill(1);
  try {
    const began = Date.now();
    await within(FREE_WITHIN, 'its id is free', openAtLast(two, { ...server(0), chosen: id }), two.detail);
    report(t, 'its id is free, since the kill', Date.now() - began);
  } finally {
    await nodes.restart(1);
  }
}));

async function withTabs(n, play) {
  const tabs = await Promise.all(Array.from({ length: n }, () => browser.open('peerjs')));
  try {
    await play(...tabs);
  } finally {
    await Promise.all(tabs.map((tab) => tab.close()));
  }
}

function open(tab, options) {
  return within(MEET_WITHIN, 'a peer is open', tab.call('open', options), tab.detail);
}

/** Asks again and again, as an app does that wants its own id. */
async function openAtLast(tab, options) {
  while (!(await tab.call('tries', options))) await apart(0.5);
}

/** Both at once, or the second so many seconds after the first. */
async function inOrder(delay, [first, second]) {
  if (delay === 0) return Promise.all([first(), second()]);
  const one = await first();
  await apart(delay);
  return [one, await second()];
}

/** Waits until each has received the other's greeting; answers the milliseconds since `began`. */
async function greet(one, idOne, two, idTwo, began) {
  const hears = (tab, other, id) => within(MEET_WITHIN, `${id} is heard`, tab.call('greetedBy', id), () => `it: ${tab.detail()}; the other: ${other.detail()}`);
  const [toOne, toTwo] = await Promise.all([hears(one, two, idTwo), hears(two, one, idOne)]);
  assert.equal(toOne.text, `hello ${idOne} from ${idTwo}`);
  assert.equal(toTwo.text, `hello ${idTwo} from ${idOne}`);
  return Math.max(toOne.at, toTwo.at) - began;
}
