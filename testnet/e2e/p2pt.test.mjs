// P2PT, as published (bittorrent-tracker's client inside), over two nodes.

import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { inTurn, newRoom, p2ptMeet, report } from './scenes.mjs';
import { startNodes } from './servers.mjs';

let nodes;
let browser;

before(async () => {
  nodes = await startNodes({ nodes: 2 });
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await nodes?.close();
});

describe('two P2PT peers', { concurrency: 3 }, () => {
  test('both at once', (t) => meet(t, { delay: 0, firstNode: 0, secondNode: 1 }));
  test('3 s apart, first on A', (t) => meet(t, { delay: 3, firstNode: 0, secondNode: 1 }));
  test('3 s apart, first on B', (t) => meet(t, { delay: 3, firstNode: 1, secondNode: 0 }));
});

test('peers with two nodes each meet', (t) => meet(t, { delay: 1, urls: nodes.ws }));

async function meet(t, { delay, firstNode, secondNode, urls }) {
  const [one, two] = await Promise.all([browser.open('p2pt'), browser.open('p2pt')]);
  try {
    const room = newRoom('p2pt');
    const began = await inTurn({
      delay,
      first: { tab: one, begin: () => one.call('join', { urls: urls ?? [nodes.ws[firstNode]], room }) },
      second: { tab: two, begin: () => two.call('join', { urls: urls ?? [nodes.ws[secondNode]], room }) },
    });
    report(t, 'messages both ways, since the second joined', await p2ptMeet(one, two, began));
  } finally {
    await Promise.all([one.close(), two.close()]);
  }
}
