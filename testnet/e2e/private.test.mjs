// Private nodes: each library gets in with the token in its URL, as the docs say, and meets its peers on another such node; and
// not without.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { reference, startCluster } from './cluster.mjs';
import { DOORS } from './doors.mjs';
import { ANNOUNCED_WITHIN, MEET_WITHIN, newRoom, report } from './scenes.mjs';
import { staysPending, within } from './wait.mjs';

const TOKEN = '0123456789abcdef0123456789abcdef';
/** How long who has no token is watched: a PeerJS client is told why it may not come, others nothing. */
const OUT_FOR = 5000;

describe('private nodes', { concurrency: 3, skip: reference && 'reference servers have no tokens' }, () => {
  let nodes;
  let browser;

  before(async () => {
    [nodes, browser] = await Promise.all([startCluster({ nodes: 2, token: TOKEN }), openBrowser()]);
  });

  after(async () => {
    await browser?.close();
    await nodes?.close();
  });

  for (const [door, { join, joined, call, hear }] of Object.entries(DOORS)) {
    test(door, async (t) => {
      const room = newRoom('private');
      const people = await Promise.all(['one', 'two', 'outside'].map(async (name) => ({ name: `${room}-${name}`, tab: await browser.open(door) })));
      const [one, two, outside] = people;
      try {
        join(outside, nodes.at[0], room).catch(() => {}); // it may wait for ever to be let in
        const out = staysPending(OUT_FOR, outside.tab.signals.frame('received', door === 'peerjs' ? '"OPEN"' : '{'));
        for (const [i, who] of [one, two].entries()) {
          await join(who, { ...nodes.at[i], prefix: `/t/${TOKEN}` }, room);
          await within(ANNOUNCED_WITHIN, 'a client has joined', joined(who), who.tab.detail);
        }
        const began = Date.now();
        await call?.(two, one);
        await within(MEET_WITHIN, 'the two meet', Promise.all([hear(one, two), hear(two, one)]), () => `${one.tab.detail()}; ${two.tab.detail()}`);
        report(t, 'met, since the second joined', Date.now() - began);
        assert.equal(await out, true, 'who has no token was let in');
      } finally {
        await Promise.all(people.map(({ tab }) => tab.close()));
      }
    });
  }
});
