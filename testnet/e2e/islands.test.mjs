// The counterproof of the other suites: two nodes that do not know each other, and the same clients on them do not meet.
// If any of these connected, it would be by some other way than the nodes, and the other suites would prove nothing.
// In each test a third client, on the first one's node, does meet it: so it is not for another reason that the second stays alone.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { startCluster } from './cluster.mjs';
import { DOORS } from './doors.mjs';
import { Program } from './program.mjs';
import { ANNOUNCED_WITHIN, APART_FOR, MEET_WITHIN, announced, newRoom, p2ptMeet, receives, report, trysteroMeet, trysteroTabs } from './scenes.mjs';
import { startNodes } from './servers.mjs';
import { describeTorrent } from './torrent.mjs';
import { staysPending, within } from './wait.mjs';

const SIZE = 5_000_000;

let islands;
let browser;

before(async () => {
  islands = await startNodes({ nodes: 2, federate: false });
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await islands?.close();
});

describe('on nodes that are not federated', () => {
  test('Trystero peers do not meet', async (t) => {
    // With the reference server only a smaller id that comes late meets a larger one: the control is given that part.
    const [control, two, one] = await trysteroTabs(browser, 3);
    const room = newRoom('islands');
    const [a, b] = islands.ws;
    await Promise.all([one.tab.call('join', { urls: [a], room }), two.tab.call('join', { urls: [b], room })]);
    await Promise.all([announced(one.tab, 'the peer on A'), announced(two.tab, 'the peer on B')]);
    const alone = staysPending(APART_FOR, Promise.race([two.tab.call('greetedBy', one.id), one.tab.call('greetedBy', two.id)]));
    const began = await control.tab.call('join', { urls: [a], room });
    report(t, 'the control on the same node met', await trysteroMeet(one, control, began));
    assert.equal(await alone, true, 'they met, though their nodes do not know each other');
    assert.deepEqual(await two.tab.call('joins'), []);
    await Promise.all([one, two, control].map((peer) => peer.tab.close()));
  });

  test('webtorrent does not download', async (t) => {
    const file = describeTorrent(SIZE, 77);
    const { size, seed, infoHash } = file;
    const [seeder, leecher, control] = await Promise.all([1, 2, 3].map(() => browser.open('webtorrent')));
    const [a, b] = islands.ws;
    await Promise.all([seeder.call('seed', { url: a, size, seed }), leecher.call('download', { url: b, infoHash })]);
    await Promise.all([announced(seeder, 'the seeder on A'), announced(leecher, 'the leecher on B')]);
    const alone = staysPending(APART_FOR, leecher.call('downloaded'));
    const began = await control.call('download', { url: a, infoHash });
    const got = await receives(control, seeder, file);
    report(t, 'the control on the same node had the file', got.at - began);
    assert.equal(await alone, true, 'the file came, though the nodes do not know each other');
    assert.equal(leecher.signals.offersIn + leecher.signals.answersIn, 0);
    await Promise.all([seeder, leecher, control].map((tab) => tab.close()));
  });

  test('P2PT peers do not meet', async (t) => {
    const [one, two, control] = await Promise.all([1, 2, 3].map(() => browser.open('p2pt')));
    const room = newRoom('islands');
    const [a, b] = islands.ws;
    await Promise.all([one.call('join', { urls: [a], room }), two.call('join', { urls: [b], room })]);
    await Promise.all([announced(one, 'the peer on A'), announced(two, 'the peer on B')]);
    const alone = staysPending(APART_FOR, two.call('greeted'));
    const began = await control.call('join', { urls: [a], room });
    report(t, 'the control on the same node met', await p2ptMeet(one, control, began));
    assert.equal(await alone, true, 'they met, though their nodes do not know each other');
    assert.equal(two.signals.offersIn + two.signals.answersIn, 0);
    await Promise.all([one, two, control].map((tab) => tab.close()));
  });
});

describe('on nodes that are not federated, by each door', { concurrency: 5 }, () => {
  for (const [door, { join, joined, call, hear }] of Object.entries(DOORS)) {
    test(`${door}: clients do not meet`, async (t) => {
      const nodes = await startCluster({ door, nodes: 2, federate: false });
      const room = newRoom('islands');
      const people = await Promise.all(['one', 'two', 'control'].map(async (name) => ({ name: `${room}-${name}`, tab: await browser.open(door) })));
      const [one, two, control] = people;
      const [a, b] = nodes.at;
      const begin = async (who, at) => {
        const began = Date.now();
        await join(who, at, room);
        await within(ANNOUNCED_WITHIN, 'a client has joined', joined(who), who.tab.detail);
        return began;
      };
      try {
        await Promise.all([begin(one, a), begin(two, b)]);
        await Promise.all([call?.(one, two), call?.(two, one)]);
        const alone = staysPending(APART_FOR, Promise.race([hear(one, two), hear(two, one)]));
        const began = await begin(control, a);
        await call?.(control, one);
        await within(MEET_WITHIN, 'the control meets the one on its node', Promise.all([hear(control, one), hear(one, control)]), control.tab.detail);
        report(t, 'the control on the same node met', Date.now() - began);
        assert.equal(await alone, true, 'they met, though their nodes do not know each other');
      } finally {
        await Promise.all(people.map(({ tab }) => tab.close()));
        await nodes.close();
      }
    });
  }
});

test('anacrolix/torrent and webtorrent do not exchange a file', async (t) => {
  const file = describeTorrent(SIZE, 78);
  const [a, b] = islands.ws;
  const [leecher, control] = await Promise.all([browser.open('webtorrent'), browser.open('webtorrent')]);
  const seeder = new Program(process.env.E2E_TORRENT, ['seed', '-tracker', a, '-size', `${SIZE}`, '-seed', `${file.seed}`]);
  try {
    await seeder.line(ANNOUNCED_WITHIN, 'the seeder announces', (line) => JSON.parse(line).event === 'announced');
    await leecher.call('download', { url: b, infoHash: file.infoHash });
    await announced(leecher, 'the leecher on B');
    const alone = staysPending(APART_FOR, leecher.call('downloaded'));
    const began = await control.call('download', { url: a, infoHash: file.infoHash });
    const got = await receives(control, control, file);
    report(t, 'the control on the same node had the file', got.at - began);
    assert.equal(await alone, true, 'the file came, though the nodes do not know each other');
  } finally {
    await Promise.all([leecher.close(), control.close(), seeder.close()]);
  }
});

test('tabs of two contexts do not hear each other through BroadcastChannel', async () => {
  const tab = await browser.open('blank');
  const beside = await browser.openBeside(tab, 'blank');
  const elsewhere = await browser.open('blank');
  await tab.call('say', 'hello');
  await within(10_000, 'a tab of the same context hears', beside.call('hears', 'hello'));
  assert.deepEqual(await elsewhere.call('heard'), []);
  await Promise.all([tab.close(), elsewhere.close()]);
});
