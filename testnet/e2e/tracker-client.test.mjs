// bittorrent-tracker's own client in Node, with real data channels (libwebrtc): each case against its own server, and
// against two of our nodes, the first client on A and the second on B.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { BittorrentTracker, CONNECT_WITHIN, newId, withClients } from './client.mjs';
import { openDoor } from './proxy.mjs';
import { APART_FOR, report } from './scenes.mjs';
import { startNodes, startReferences } from './servers.mjs';
import { staysPending, within } from './wait.mjs';

// The client comes back 10 s to 5 min 10 s after it lost its socket; see `soon`.
const BACK_WITHIN = 30_000;

const reference = {
  name: 'its own server',
  // All clients of one URL share a socket; another path gives the second client one of its own.
  async start() {
    const server = await startReferences(1);
    return { a: server.ws[0], b: `${server.ws[0]}/announce`, close: server.close };
  },
  async startApart() {
    const servers = await startReferences(2);
    return { a: servers.ws[0], b: servers.ws[1], close: servers.close };
  },
  async startRestartable() {
    const before = await startReferences(1);
    const after = await startReferences(1);
    return { a: before.ws[0], replacement: after.ws[0], b: `${after.ws[0]}/announce`, kill: before.close, close: after.close };
  },
};

const ours = {
  name: 'two of our nodes',
  async start() {
    const nodes = await startNodes({ nodes: 2 });
    return { a: nodes.ws[0], b: nodes.ws[1], close: nodes.close };
  },
  async startApart() {
    const nodes = await startNodes({ nodes: 2, federate: false });
    return { a: nodes.ws[0], b: nodes.ws[1], close: nodes.close };
  },
  async startRestartable() {
    const nodes = await startNodes({ nodes: 3, processes: true });
    return { a: nodes.ws[0], replacement: nodes.ws[2], b: nodes.ws[1], kill: () => nodes.kill(0), close: nodes.close };
  },
};

/** What a client can do without a data channel: offers are not made when it wants no peers. */
const QUIET = { numwant: 0 };

const cases = {
  async 'announce: the reply has the counts and an interval'({ join, servers }) {
    const infoHash = newId();
    const seeder = join({ url: servers.a, infoHash });
    const leecher = join({ url: servers.b, infoHash });
    const first = await seeder.announce('start', { ...QUIET, left: 0 });
    assert.equal(first.infoHash, infoHash);
    assert.deepEqual([first.complete, first.incomplete], [1, 0]);
    assert.ok(first.interval > 0, `interval is ${first.interval}`);
    const second = await leecher.announce('start', { ...QUIET, left: 5 });
    assert.equal(second.incomplete, 1);
    await Promise.all([seeder.sees(1, 1), leecher.sees(1, 1)]);
    const third = await leecher.announce('update', { ...QUIET, left: 5 });
    assert.deepEqual([third.complete, third.incomplete], [1, 1]);
    noWarnings(seeder, leecher);
  },

  async 'answer: the two open a data channel and each knows the other\'s id'({ t, join, servers }) {
    const infoHash = newId();
    const one = join({ url: servers.a, infoHash });
    const two = join({ url: servers.b, infoHash });
    await one.announce('start');
    const began = Date.now();
    await two.announce('start');
    await greetEachOther(one, two);
    report(t, 'messages both ways, since the second announced', Date.now() - began);
  },

  async 'answer: when both announce at once'({ t, join, servers }) {
    const infoHash = newId();
    const one = join({ url: servers.a, infoHash });
    const two = join({ url: servers.b, infoHash });
    const began = Date.now();
    await Promise.all([one.announce('start'), two.announce('start')]);
    await greetEachOther(one, two);
    report(t, 'messages both ways', Date.now() - began);
  },

  async 'scrape: one info_hash, several, and one that nobody has'({ join, servers }) {
    const [hash, other, nobodys] = [newId(), newId(), newId()];
    const seeder = join({ url: servers.a, infoHash: hash });
    const leecher = join({ url: servers.b, infoHash: hash });
    const alone = join({ url: servers.b, infoHash: other });
    await seeder.announce('start', { ...QUIET, left: 0 });
    await leecher.announce('start', { ...QUIET, left: 5 });
    await alone.announce('start', { ...QUIET, left: 5 });
    await leecher.sees(1, 1);
    assert.deepEqual(await alone.scrape([hash, other, nobodys]), {
      [hash]: { complete: 1, incomplete: 1 },
      [other]: { complete: 0, incomplete: 1 },
      [nobodys]: { complete: 0, incomplete: 0 },
    });
    const url = apartFrom(servers.b, 'scrape');
    const scraped = await within(CONNECT_WITHIN, 'Client.scrape calls back', new Promise((resolve, reject) => {
      BittorrentTracker.scrape({ infoHash: hash, announce: url }, (err, data) => (err ? reject(err) : resolve(data)));
    }));
    assert.deepEqual([scraped.infoHash, scraped.complete, scraped.incomplete], [hash, 1, 1]);
    noWarnings(seeder, leecher, alone);
  },

  async 'several info_hashes on one socket: each meets its own, and all leave when it closes'({ join, servers }) {
    const hashes = [newId(), newId(), newId()];
    const [idOne, idTwo] = [newId(), newId()];
    const ones = hashes.map((infoHash) => join({ url: apartFrom(servers.a, 'several'), infoHash, peerId: idOne }));
    const twos = hashes.map((infoHash) => join({ url: apartFrom(servers.b, 'several'), infoHash, peerId: idTwo }));
    assert.equal(new Set(ones.map((client) => client.socket)).size, 1);
    assert.equal(new Set(twos.map((client) => client.socket)).size, 1);
    await Promise.all(ones.map((client) => client.announce('start')));
    await Promise.all(twos.map((client) => client.announce('start')));
    await Promise.all(ones.map((one, i) => greetEachOther(one, twos[i])));
    await Promise.all(twos.map((two) => two.sees(0, 2)));
    await ones[0].destroy();
    // The socket is still in use: the other two work on.
    await Promise.all([ones[1].sees(0, 2), ones[2].sees(0, 2)]);
    await ones[1].destroy();
    await ones[2].destroy();
    await Promise.all(twos.map((two) => two.sees(0, 1)));
  },

  async 'stop: answered, and the peer has left everywhere'({ join, servers }) {
    const infoHash = newId();
    const [one, two] = await seederAndLeecher(join, servers, infoHash);
    const reply = await one.announce('stop', { left: 0 });
    assert.equal(reply.complete, 0);
    await two.sees(0, 1);
    await one.sees(0, 1);
    await one.announce('start', { ...QUIET, left: 0 });
    await two.sees(1, 1);
    noWarnings(one, two);
  },

  async 'complete: a leecher becomes a seeder everywhere, and stays one when an update does not say so'({ join, servers }) {
    const infoHash = newId();
    const [one, two] = await seederAndLeecher(join, servers, infoHash);
    await two.announce('complete', { left: 0, downloaded: 5 });
    await Promise.all([one.sees(2, 0), two.sees(2, 0)]);
    const reply = await two.announce('update', QUIET);
    assert.deepEqual([reply.complete, reply.incomplete], [2, 0]);
    await one.sees(2, 0);
    noWarnings(one, two);
  },

  async 'update: changes nothing for a peer that is known, and brings in one that is not'({ join, servers }) {
    const infoHash = newId();
    const [one, two] = await seederAndLeecher(join, servers, infoHash);
    for (let i = 0; i < 3; i += 1) {
      const reply = await two.announce('update', { ...QUIET, left: 5 });
      assert.equal(reply.incomplete, 1);
    }
    await one.sees(1, 1);
    const late = join({ url: servers.b, infoHash });
    const reply = await late.announce('update', { ...QUIET, left: 5 });
    assert.equal(reply.incomplete, 2);
    await one.sees(1, 2);
    noWarnings(one, two, late);
  },

  async 'destroy: calls back, and the peer has left everywhere without a stop'({ join, servers }) {
    const infoHash = newId();
    const one = join({ url: apartFrom(servers.a, 'destroy'), infoHash });
    const two = join({ url: servers.b, infoHash });
    await one.announce('start', { ...QUIET, left: 0 });
    await two.announce('start', { ...QUIET, left: 5 });
    await two.sees(1, 1);
    await one.destroy();
    await two.sees(0, 1);
    noWarnings(one, two);
  },

  async 'an event that does not exist is refused, and the socket lives on'({ join, servers }) {
    const infoHash = newId();
    const url = apartFrom(servers.a, 'event');
    const one = join({ url, infoHash, announce: { ...QUIET, event: 'weird' } });
    const two = join({ url, infoHash });
    const { socket } = one;
    const warned = once(one, 'warned');
    // Its own verbs set the event; the announces that it makes from time to time take what the application says.
    one.client.setInterval(100);
    const [text] = await within(CONNECT_WITHIN, 'the failure comes', warned);
    one.client.setInterval(0);
    assert.equal(text, 'invalid event');
    assert.equal(one.socket, socket);
    await two.announce('start', QUIET);
    assert.equal(two.socket, socket);
  },
};

// bittorrent-tracker's server answers these without an `action`, and its client then drops the socket for minutes.
const beyondTheReference = {
  async 'a client with an impossible info_hash does not take the socket from its neighbour'({ join, servers }) {
    const url = apartFrom(servers.a, 'bad');
    const bad = join({ url, infoHash: newId().slice(2) });
    const good = join({ url, infoHash: newId() });
    const { socket } = good;
    assert.equal(bad.socket, socket);
    bad.client.start(QUIET);
    // The socket keeps the order: when this is answered, the bad announce was too.
    await good.announce('start', QUIET);
    await good.sees(0, 1);
    assert.equal(good.socket, socket);
    noWarnings(good);
  },
};

for (const target of [reference, ours]) {
  if (target === ours && process.env.E2E_TARGET === 'reference') continue;
  describe(`against ${target.name}`, () => {
    let servers;
    before(async () => {
      servers = await target.start();
    });
    after(() => servers?.close());

    const played = target === ours ? { ...cases, ...beyondTheReference } : cases;
    describe('cases', { concurrency: Object.keys(played).length + 2 }, () => {
      for (const [title, play] of Object.entries(played)) {
        test(title, (t) => withClients((join) => play({ t, join, servers })));
      }

      test('two servers that do not know each other: the same clients do not meet', async () => {
        const islands = await target.startApart();
        try {
          await withClients((join) => stayApart(join, islands));
        } finally {
          await islands.close();
        }
      });

      test('reconnect: a client whose server went away announces again, to what is there then, and meets whom it finds', async (t) => {
        const lost = await target.startRestartable();
        const door = await openDoor(lost.a);
        try {
          await withClients((join) => reconnects({ t, join, door, lost }));
        } finally {
          await door.close();
          await lost.close();
        }
      });
    });
  });
}

async function stayApart(join, servers) {
  const infoHash = newId();
  const one = join({ url: servers.a, infoHash });
  const two = join({ url: servers.b, infoHash });
  // On the first's server, and met by it: so it is not for another reason that the second stays alone.
  const control = join({ url: `${servers.a}/announce`, infoHash });
  await Promise.all([one.announce('start'), two.announce('start')]);
  const alone = staysPending(APART_FOR, Promise.race([once(two.client, 'peer'), once(one, 'message').then(() => one.hears(two))]));
  await control.announce('start');
  await greetEachOther(one, control);
  assert.equal(await alone, true, 'they met, though their servers do not know each other');
  assert.deepEqual(two.messages, []);
  assert.deepEqual((await two.scrape())[infoHash], { complete: 0, incomplete: 1 });
  assert.deepEqual((await one.scrape())[infoHash], { complete: 0, incomplete: 2 });
}

async function reconnects({ t, join, door, lost }) {
  const infoHash = newId();
  const one = join({ url: door.url, infoHash });
  await one.announce('start', QUIET);
  const { socket } = one;
  await soon(async () => {
    const closed = once(socket, 'close');
    await lost.kill();
    door.leadTo(lost.replacement);
    await within(BACK_WITHIN, 'the client sees its socket close', closed);
  });
  const two = join({ url: lost.b, infoHash });
  await two.announce('start');
  const began = Date.now();
  await within(BACK_WITHIN, 'the client announces again', once(one.client, 'update'), () => one.detail());
  report(t, 'announced again, since its server went away', Date.now() - began);
  await greetEachOther(one, two);
  await two.sees(0, 2);
  report(t, 'messages both ways, since its server went away', Date.now() - began);
}

/** Takes the chance out of the client's delay before it reconnects (up to 5 minutes) while `play` runs: 10 s remain. */
async function soon(play) {
  const { random } = Math;
  Math.random = () => 0;
  try {
    return await play();
  } finally {
    Math.random = random;
  }
}

async function seederAndLeecher(join, servers, infoHash) {
  const one = join({ url: servers.a, infoHash });
  const two = join({ url: servers.b, infoHash });
  await one.announce('start', { ...QUIET, left: 0 });
  await two.announce('start', { ...QUIET, left: 5 });
  await Promise.all([one.sees(1, 1), two.sees(1, 1)]);
  return [one, two];
}

async function greetEachOther(one, two) {
  const [toOne, toTwo] = await Promise.all([one.hears(two), two.hears(one)]);
  assert.equal(toOne, `hello ${one.peerId} from ${two.peerId}`);
  assert.equal(toTwo, `hello ${two.peerId} from ${one.peerId}`);
}

/** Another URL of the same server, so that no other case's clients share the socket. */
function apartFrom(url, name) {
  return `${url.replace(/\/announce.*$/, '')}/announce?case=${name}-${url.includes('/announce') ? 'b' : 'a'}`;
}

function noWarnings(...clients) {
  assert.deepEqual(clients.flatMap((client) => client.warnings), []);
}
