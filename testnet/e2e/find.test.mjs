// The cold start: the clients are there and have announced, and only then do their nodes find each other. What the clients
// announced before is all there is to make them meet; they would announce again only after 40 s.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { announced, newRoom, p2ptMeet, receives, report, trysteroMeet, trysteroTabs } from './scenes.mjs';
import { startNodes } from './servers.mjs';
import { describeTorrent } from './torrent.mjs';

/** Seconds until the nodes find each other: enough for all clients to announce before. */
const FIND_AFTER = 12;
const SIZE = 5_000_000;
const skip = process.env.E2E_TARGET === 'reference' ? 'a reference server has no other node to find' : false;

describe('nodes that find each other after their clients came', { skip }, () => {
  let browser;
  let nodes;
  let started;
  let ready;

  // All clients are opened first and announce to nodes that have just started; the tests then watch each pair.
  const scenes = {};
  before(async () => {
    browser = await openBrowser();
    const pairs = await Promise.all([trysteroTabs(browser), trysteroTabs(browser)]);
    const [seeder, leecher, one, two] = await Promise.all(['webtorrent', 'webtorrent', 'p2pt', 'p2pt'].map((page) => browser.open(page)));
    Object.assign(scenes, { smallOnA: pairs[0], smallOnB: pairs[1], seeder, leecher, p2pt: [one, two], file: describeTorrent(SIZE, 3000) });
    started = Date.now();
    nodes = await startNodes({ nodes: 2, knowAfter: FIND_AFTER });
    ready = everyoneAnnounces();
    await ready;
    assert.ok(Date.now() - started < FIND_AFTER * 1000, 'the clients took too long to announce for this test to mean something');
  });

  after(async () => {
    await browser?.close();
    await nodes?.close();
  });

  async function everyoneAnnounces() {
    const [a, b] = nodes.ws;
    const { smallOnA, smallOnB, seeder, leecher, p2pt, file: { size, seed, infoHash } } = scenes;
    const [roomA, roomB, roomP] = ['small-on-a', 'small-on-b', 'p2pt'].map(newRoom);
    await Promise.all([
      smallOnA[0].tab.call('join', { urls: [a], room: roomA }),
      smallOnA[1].tab.call('join', { urls: [b], room: roomA }),
      smallOnB[0].tab.call('join', { urls: [b], room: roomB }),
      smallOnB[1].tab.call('join', { urls: [a], room: roomB }),
      seeder.call('seed', { url: a, size, seed }),
      leecher.call('download', { url: b, infoHash }),
      p2pt[0].call('join', { urls: [a], room: roomP }),
      p2pt[1].call('join', { urls: [b], room: roomP }),
    ]);
    const tabs = [...smallOnA, ...smallOnB].map((peer) => peer.tab).concat(seeder, leecher, p2pt);
    await Promise.all(tabs.map((tab) => announced(tab, 'a client')));
  }

  const foundAt = () => started + FIND_AFTER * 1000;

  /** A meeting before the nodes could know each other would be no work of theirs. */
  function afterFinding(t, what, ms) {
    assert.ok(ms > 0, `${what} ${-ms} ms before the nodes could find each other`);
    report(t, `${what}, since the nodes may know each other`, ms);
  }

  for (const node of ['A', 'B']) {
    test(`Trystero, the smaller id on ${node}`, async (t) => {
      const [small, large] = scenes[`smallOn${node}`];
      afterFinding(t, 'messages both ways', await trysteroMeet(small, large, foundAt()));
    });
  }

  test('webtorrent', async (t) => {
    const got = await receives(scenes.leecher, scenes.seeder, scenes.file);
    afterFinding(t, 'connected', got.wires[0].at - foundAt());
    afterFinding(t, `${got.bytes} bytes with the right digest`, got.at - foundAt());
  });

  test('P2PT', async (t) => {
    afterFinding(t, 'messages both ways', await p2ptMeet(...scenes.p2pt, foundAt()));
  });
});
