// webtorrent, as published, over two nodes: a tab on one node seeds a file of 5 MB, a tab on the other downloads it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { inTurn, receives, report } from './scenes.mjs';
import { startNodes } from './servers.mjs';
import { describeTorrent } from './torrent.mjs';

const SIZE = 5_000_000;
const delays = process.env.E2E_FULL ? [0, 0.1, 1, 3, 10, 20, 39, 44, 60] : [0, 3, 20];

let nodes;
let browser;
let files = 0;

before(async () => {
  nodes = await startNodes({ nodes: 2 });
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await nodes?.close();
});

for (const delay of delays) {
  describe(delay === 0 ? 'both at once' : `${delay} s apart`, { concurrency: 2 }, () => {
    if (delay === 0) {
      test('seeder on A, leecher on B', (t) => transfer(t, { delay, seederFirst: true }));
      return;
    }
    test('seeder on A first, leecher on B', (t) => transfer(t, { delay, seederFirst: true }));
    test('leecher on B first, seeder on A', (t) => transfer(t, { delay, seederFirst: false }));
  });
}

async function transfer(t, { delay, seederFirst }) {
  files += 1;
  const file = describeTorrent(SIZE, files);
  const [seederTab, leecherTab] = await Promise.all([browser.open('webtorrent'), browser.open('webtorrent')]);
  try {
    const { size, seed, infoHash } = file;
    const seeder = { tab: seederTab, begin: () => seederTab.call('seed', { url: nodes.ws[0], size, seed }) };
    const leecher = { tab: leecherTab, begin: () => leecherTab.call('download', { url: nodes.ws[1], infoHash }) };
    const began = await inTurn({ delay, first: seederFirst ? seeder : leecher, second: seederFirst ? leecher : seeder });
    const got = await receives(leecherTab, seederTab, file);
    assert.deepEqual(await seederTab.call('infoHashes'), [infoHash]);
    report(t, 'connected, since the second joined', got.wires[0].at - began);
    report(t, `${got.bytes} bytes with the right digest, since the second joined`, got.at - began);
  } finally {
    await Promise.all([seederTab.close(), leecherTab.close()]);
  }
}
