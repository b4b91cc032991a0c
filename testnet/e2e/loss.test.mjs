// A node that is killed: those who are connected stay so, and those who know another node go on meeting.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { inTurn, newRoom, report, trysteroMeet, trysteroTabs } from './scenes.mjs';
import { startNodes } from './servers.mjs';
import { within } from './wait.mjs';

const skip = process.env.E2E_TARGET === 'reference' ? 'a reference server has no node to lose' : false;

describe('Trystero peers on A and B, when B is killed', { skip }, () => {
  let nodes;
  let browser;

  before(async () => {
    nodes = await startNodes({ nodes: 3, processes: true });
    browser = await openBrowser();
  });

  after(async () => {
    await browser?.close();
    await nodes?.close();
  });

  test('they stay connected, and one who comes with B and C in its list meets both', async (t) => {
    const [onB, newcomer, onA] = await trysteroTabs(browser, 3);
    const [a, b, c] = nodes.ws;
    const room = newRoom('loss');
    const began = await inTurn({
      delay: 1,
      first: { tab: onA.tab, begin: () => onA.tab.call('join', { urls: [a], room }) },
      second: { tab: onB.tab, begin: () => onB.tab.call('join', { urls: [b, c], room }) },
    });
    report(t, 'messages both ways before', await trysteroMeet(onA, onB, began));

    nodes.kill(1);
    await within(10_000, 'the tab on B sees its node go', onB.tab.signals.closed());
    const answer = await onA.tab.call('ask', { target: onB.id, text: 'are you there' });
    assert.equal(answer, `${onB.id} heard are you there`);

    const came = await newcomer.tab.call('join', { urls: [b, c], room });
    const took = await Promise.all([trysteroMeet(newcomer, onA, came), trysteroMeet(newcomer, onB, came)]);
    report(t, 'the newcomer has messages both ways with both', Math.max(...took));
    assert.deepEqual(await onA.tab.call('leaves'), []);
    assert.deepEqual(await onB.tab.call('leaves'), []);
  });
});
