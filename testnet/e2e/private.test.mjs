// A node that asks for a token: each library gives it in its own way and meets others, and without it, it does not.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { startCluster } from './cluster.mjs';
import { MEET_WITHIN, newRoom, report } from './scenes.mjs';
import { openVisitors, pageOf } from './visitor.mjs';
import { staysPending, within } from './wait.mjs';

const TOKEN = 'a-token-of-tests-0123';

/** How long a client without a token is watched. */
const OUT_FOR = 5000;
/** How often it may try in that time. */
const TRIES = 12;

let node;
let browser;

before(async () => {
  [node, browser] = await Promise.all([startCluster({ nodes: 1, federate: false, flags: ['--token', TOKEN, '--token', `${TOKEN}-2`] }), openBrowser()]);
});

after(async () => {
  await browser?.close();
  await node?.close();
});

const path = (rest = '') => `${node.ws[0]}/t/${TOKEN}${rest}`;
const query = (rest = '/') => `${node.ws[0]}${rest}?token=${TOKEN}`;
const none = (rest = '') => `${node.ws[0]}${rest}`;

// What a client does to join with a URL or options, and how it hears another; with PeerJS it has to call it.
const byURLs = {
  join: ({ tab, name }, url, room) => tab.call('join', { urls: [url], room, name }),
  hear: async ({ tab }, other) => tab.call('greetedBy', await other.tab.call('id')),
};
const byURL = { ...byURLs, join: ({ tab, name }, url, room) => tab.call('join', { url, room, name }) };
const CLIENTS = {
  'Trystero, torrent': { ...byURLs, page: 'trystero', urls: [() => path(), () => query()], without: () => none() },
  p2pt: { ...byURLs, page: 'p2pt', urls: [() => path(), () => query()], without: () => none(), hear: ({ tab }) => tab.call('greeted') },
  'y-webrtc': {
    ...byURLs, page: 'ywebrtc', urls: [() => path('/y-webrtc'), () => query('/y-webrtc'), () => path()], without: () => none('/y-webrtc'),
    hear: ({ tab, name }, other) => tab.call('meets', [name, other.name]),
  },
  'Trystero, ws-relay': { ...byURLs, page: 'wsrelay', urls: [() => path('/ws-relay'), () => query('/ws-relay')], without: () => none('/ws-relay') },
  RxDB: {
    ...byURL, page: 'rxdb', urls: [() => path('/rxdb'), () => query('/rxdb')], without: () => none('/rxdb'),
    hear: ({ tab }, other) => tab.call('reads', { id: other.name, text: `${other.name} was here` }),
  },
  Matchbox: {
    ...byURL, page: 'matchbox', urls: [(room) => path(`/matchbox/${room}`), (room) => query(`/matchbox/${room}`)], without: (room) => none(`/matchbox/${room}`),
  },
  SDK: {
    page: 'sdk', urls: [() => path(), () => query()], without: () => none(),
    join: ({ tab, name }, url, app) => tab.call('join', { urls: [url], app, name }),
    hear: async ({ tab }, other) => tab.call('hears', await other.tab.call('id')),
  },
};

for (const [what, { page, join, hear, urls, without }] of Object.entries(CLIENTS)) {
  describe(what, { concurrency: 3 }, () => {
    urls.forEach((url, i) => test(`with a token ${['in the path', 'in the query', 'in the path, and no other'][i]}`, (t) => withPeople(page, async (one, two) => {
      const room = newRoom('private');
      const began = Date.now();
      await Promise.all([one, two].map((who) => join(who, url(room), room)));
      await within(MEET_WITHIN, 'they meet', Promise.all([hear(one, two), hear(two, one)]), () => `${one.tab.detail()}; ${two.tab.detail()}`);
      report(t, 'met', Date.now() - began);
    })));

    test('without a token', () => withPeople(page, async (one, two) => {
      const room = newRoom('private');
      await join(one, urls[0](room), room);
      // Some say so, others try again and again, but not all the time.
      const out = join(two, without(room), room).then(() => Promise.race([hear(one, two), hear(two, one)]), () => new Promise(() => {}));
      assert.equal(await staysPending(OUT_FOR, out), true, 'it came in');
      assert.ok(two.tab.signals.sockets <= TRIES, two.tab.detail());
    }));
  });
}

describe('PeerJS', { concurrency: 3 }, () => {
  const key = newRoom('key');
  const ways = {
    'in the path': { path: `/t/${TOKEN}/` },
    'in the path, with a key of its own': { path: `/t/${TOKEN}/peerjs-server`, key },
    'as its token': { path: '/', token: TOKEN },
    'as its key': { path: '/peerjs-server', key: TOKEN },
  };
  for (const [way, options] of Object.entries(ways)) {
    for (const chosen of [true, false]) {
      test(`a token ${way}, ${chosen ? 'chosen ids' : 'ids of the node'}`, (t) => withPeople('peerjs', async (one, two) => {
        const open = ({ tab, name }) => within(MEET_WITHIN, 'a peer is open', tab.call('open', { ...node.at[0], ...options, chosen: chosen && name }), tab.detail);
        const [first, second] = await Promise.all([open(one), open(two)]);
        const began = await two.tab.call('connect', first.id);
        await within(MEET_WITHIN, 'they meet', Promise.all([one.tab.call('greetedBy', second.id), two.tab.call('greetedBy', first.id)]), one.tab.detail);
        report(t, 'met, since one called', Date.now() - began);
      }));
    }
  }

  for (const chosen of [true, false]) {
    test(`without a token, ${chosen ? 'a chosen id' : 'an id of the node'}`, () => withPeople('peerjs', async ({ tab, name }) => {
      tab.call('open', { ...node.at[0], path: '/', chosen: chosen && name }).catch(() => {});
      await within(MEET_WITHIN, 'it is told', tab.call('happened', 'server-error'), tab.detail);
    }));
  }
});

test('the page of the node', async () => {
  const visitors = await openVisitors();
  try {
    const [ada, bob, eve] = await Promise.all([path(), path(), none()].map((url) => visitors.visit(pageOf(url))));
    const room = newRoom('page');
    await ada.enter(room, 'Ada');
    await bob.enter(room, 'Bob');
    await ada.sees(MEET_WITHIN, 'Bob');
    assert.equal(await ada.text('#status'), 'Node is up');
    await within(MEET_WITHIN, 'the page says that the node is private', eve.page.waitForFunction(() => document.querySelector('#status').textContent.includes('private')));
    await eve.enter(room, 'Eve');
    await within(MEET_WITHIN, 'the room says so too', eve.page.waitForFunction(() => document.querySelector('#notice').textContent.includes('private')));
  } finally {
    await visitors.close();
  }
});

async function withPeople(page, play) {
  const mine = newRoom('who');
  const people = await Promise.all(['one', 'two'].map(async (name) => ({ name: `${mine}-${name}`, tab: await browser.open(page) })));
  try {
    await play(...people);
  } finally {
    await Promise.all(people.map(({ tab }) => tab.close()));
  }
}
