// The browser's SDK and nodes that are hostile: they see nothing, can make nobody connect to somebody else, and what they lose,
// repeat or delay keeps nobody apart. And nodes that are killed.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { disguises, drops, forges, honest, impersonates, reorders, replays, spoils } from './mischief.mjs';
import { MEET_WITHIN, newRoom, report } from './scenes.mjs';
import { meet, noFirefox, openPeers } from './sdk.mjs';
import { startNodes } from './servers.mjs';
import { openTap } from './tap.mjs';
import { staysPending, within } from './wait.mjs';

const SECRET = 'correct horse battery staple';
const SPOILT_FOR = 8000;
/** How long peers are watched, that they do not lose each other. */
const QUIET_FOR = 3000;
/** What is lost is said again when a peer has waited for it, which is 5 s and then 15 s; five times that. */
const AGAIN_WITHIN = 75_000;

let nodes;
let peers;

before(async () => {
  nodes = await startNodes({ nodes: 2 });
  peers = await openPeers({ firefox: true });
});

after(async () => {
  await peers?.close();
  await nodes?.close();
});

/**
 * Runs `scene` with peers of `kinds`, each with a hostile node of its own: A, B, A... `mischiefs` are what those do. Checks that
 * the peers have stayed on them.
 */
function withTaps(kinds, mischiefs, scene) {
  return peers.play(kinds, async (...all) => {
    const taps = await Promise.all(mischiefs.map((mischief, i) => openTap(nodes.ws[i % 2], mischief)));
    try {
      await scene(all, taps);
      assert.deepEqual(taps.map((tap) => tap.clients), taps.map(() => 1), 'a peer has come anew');
    } finally {
      await Promise.all(taps.map((tap) => tap.close()));
    }
  });
}

/** Checks that `peer` is connected to `others`, once to each, has lost nobody, and has heard each greet once. */
async function sawOnly(peer, others) {
  const ids = (await Promise.all(others.map((other) => other.call('id')))).sort();
  for (const [what, list] of [['connected', await peer.call('peers')], ['greeted', await peer.call('heard')]]) {
    assert.deepEqual(list.map((one) => one.id).sort(), ids, `${what}, by id`);
  }
  assert.deepEqual(await peer.call('lost'), []);
}

/** What frames must not have: the words of SDP, as it is and within JSON, and all that is in `secrets`. */
function found(frames, secrets) {
  const words = ['a=ice-ufrag', 'ice-pwd', 'fingerprint', 'candidate:', 'usernameFragment', 'v=0\r\n', 'v=0\\r\\n', SECRET, ...secrets];
  return words.filter((word) => frames.some((bytes) => bytes.includes(word)));
}

/** The passwords and fingerprints of connections. */
function secretsOf(descriptions) {
  return descriptions.flatMap((sdp) => [...sdp.matchAll(/^a=(?:ice-pwd|fingerprint):(\S+(?: \S+)?)/gm)].map((match) => match[1].split(' ').at(-1)));
}

describe('all that a node sees has nothing of a description in it', () => {
  for (const kinds of [['Chromium', 'Chromium'], ['Firefox', 'Go']]) {
    test(kinds.join(' and '), { skip: kinds.includes('Firefox') && noFirefox }, (t) => withTaps(kinds, [honest, honest], async ([one, two], taps) => {
      const app = newRoom('hostile');
      await one.call('join', { urls: [taps[0].url], app, secret: SECRET });
      await meet(one, two, await two.call('join', { urls: [taps[1].url], app, secret: SECRET }));
      await sawOnly(one, [two]);
      const descriptions = await one.call('descriptions');
      const secrets = secretsOf(descriptions);
      assert.ok(secrets.length >= 4, 'each of two descriptions has a password and a fingerprint');
      await two.call('leave');
      const frames = taps.flatMap((tap) => tap.frames);
      assert.ok(taps[0].signals.answer + taps[1].signals.answer > 0, 'an answer has passed');
      assert.deepEqual(found(frames, [...secrets, app]), []);
      assert.ok(found([Buffer.from(JSON.stringify(descriptions))], secrets).length > 7, 'it would be found');
      t.diagnostic(`${frames.length} frames with ${frames.reduce((sum, frame) => sum + frame.length, 0)} bytes`);
    }));
  }
});

describe('peers meet, and nobody else, although their nodes', { concurrency: true }, () => {
  for (const [what, mischief, after = () => {}] of [
    ['forge signals and presences', () => [forges, forges]],
    ['impersonate the other, knowing the secret', (app) => [impersonates(app, SECRET), impersonates(app, SECRET)]],
    ['deliver late, and the last first', () => [reorders(300), reorders(300)]],
    ['lose the first offer, and deliver it in the end', () => [honest, drops('offer')], (taps) => taps[1].mischief.late()],
    ['lose the first answer, and repeat the rest', () => [drops('answer'), replays()], (taps) => taps[1].mischief.again()],
    ['lose the first candidates', () => [drops('candidates'), drops('candidates')]],
  ]) {
    const app = newRoom('hostile');
    test(what, (t) => withTaps(['Chromium', 'Chromium'], mischief(app), async ([one, two], taps) => {
      await one.call('join', { urls: [taps[0].url], app, secret: SECRET });
      const began = await two.call('join', { urls: [taps[1].url], app, secret: SECRET });
      report(t, 'messages both ways', await meet(one, two, began, AGAIN_WITHIN));
      await within(AGAIN_WITHIN, 'they are connected directly', Promise.all([one.call('direct', 1), two.call('direct', 1)]), () => `${one.detail()}; ${two.detail()}`);
      report(t, 'directly', Date.now() - began);
      const descriptions = () => taps.map(({ signals: { offer, answer } }) => [offer, answer]);
      const before = descriptions();
      after(taps);
      const ids = await Promise.all([one, two].map((peer) => peer.call('id')));
      assert.equal(await staysPending(QUIET_FOR, Promise.race([one.call('loses', ids[1]), two.call('loses', ids[0])])), true, 'one has lost the other');
      assert.deepEqual(descriptions(), before, 'offers and answers have come that nobody needs');
      await Promise.all([sawOnly(one, [two]), sawOnly(two, [one])]);
    }));
  }

  test('show each as somebody else', (t) => withTaps(['Chromium', 'Chromium', 'Chromium'], [disguises('Mallory'), disguises('Mallory'), honest], async ([one, two, mallory], taps) => {
    const app = newRoom('hostile');
    const join = (peer, i, name) => peer.call('join', { urls: [taps[i].url], app, name, secret: SECRET });
    await join(mallory, 2, 'Mallory');
    await meet(mallory, one, await join(one, 0, 'Ada'), AGAIN_WITHIN);
    const began = await join(two, 1, 'Bob');
    await Promise.all([meet(mallory, two, began, AGAIN_WITHIN), meet(one, two, began, AGAIN_WITHIN)]);
    report(t, 'messages all ways', Date.now() - began);
    await Promise.all([sawOnly(one, [two, mallory]), sawOnly(two, [one, mallory]), sawOnly(mallory, [one, two])]);
    assert.deepEqual((await one.call('peers')).map((peer) => peer.name).sort(), ['Bob', 'Mallory']);
  }));

  test('spoil all signals, until they stop', (t) => withTaps(['Chromium', 'Chromium'], [spoils, spoils], async ([one, two], taps) => {
    const app = newRoom('hostile');
    await one.call('join', { urls: [taps[0].url], app, secret: SECRET });
    await two.call('join', { urls: [taps[1].url], app, secret: SECRET });
    assert.equal(await staysPending(SPOILT_FOR, Promise.race([one.call('sees', 1), two.call('sees', 1)])), true, 'they connected');
    assert.ok(taps[0].signals.offer + taps[1].signals.offer > 0, 'no offer came');
    const honestly = Date.now();
    for (const tap of taps) tap.mischief = honest;
    report(t, 'messages both ways, since they stopped', await meet(one, two, honestly, AGAIN_WITHIN));
    await Promise.all([sawOnly(one, [two]), sawOnly(two, [one])]);
  }));
});

describe('a node is killed, and its peer comes to another one, as who it was', () => {
  for (const kind of ['Chromium', 'Firefox']) {
    const skip = kind === 'Firefox' && noFirefox;
    test(`${kind}, when they are connected`, { skip }, (t) => withKilled(kind, async (one, two, app, { urls, kill }) => {
      await meet(one, two, await two.call('join', { urls: [urls[1]], app }));
      await kill();
      await movesTo(t, two, [urls[0], urls[2]], Date.now());
    }));

    test(`${kind}, when it has given it the first offer`, { skip }, (t) => withKilled(kind, async (one, two, app, { urls, kill }) => {
      let began;
      const tap = await openTap(urls[1], (frame, pass) => {
        if (frame.kind === 'offer') {
          kill(); // so that the answer goes nowhere
          began = Date.now();
        }
        pass(frame.bytes);
      });
      try {
        const offered = once(tap, 'signal');
        await two.call('join', { urls: [tap.url], app });
        await within(MEET_WITHIN, 'the offer comes', offered);
        await movesTo(t, two, [urls[0], urls[2]], began);
        report(t, 'messages both ways', await meet(one, two, began, AGAIN_WITHIN));
      } finally {
        await tap.close();
      }
    }));
  }
});

/** Checks that `peer` comes to one of the nodes `urls`. */
async function movesTo(t, peer, urls, began) {
  const to = await within(MEET_WITHIN, 'it comes to another node', peer.call('moves'), () => peer.detail());
  report(t, 'on another node', Date.now() - began);
  assert.ok(urls.includes(to), `it came to ${to}`);
}

/**
 * Runs `scene` with a peer on the first of three nodes and one that has yet to join, of which the second node is to be killed.
 * Checks then that they are still connected, and that one who comes meets both.
 */
function withKilled(kind, scene) {
  return peers.play(['Chromium', kind, 'Chromium'], async (one, two, third) => {
    const net = await startNodes({ nodes: 3, processes: true });
    try {
      const app = newRoom('hostile');
      await one.call('join', { urls: [net.ws[0]], app });
      await scene(one, two, app, { urls: net.ws, kill: () => net.kill(1) });
      await one.call('say', 'still there?');
      await within(MEET_WITHIN, 'the connection lives', two.call('told', 'still there?'), () => two.detail());
      const came = await third.call('join', { urls: [net.ws[2]], app });
      await Promise.all([meet(third, one, came), meet(third, two, came)]);
      assert.deepEqual([await one.call('lost'), await two.call('lost')], [[], []]);
    } finally {
      await net.close();
    }
  });
}
