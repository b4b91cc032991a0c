// Scenes that several suites play: two peers that should meet, told apart by node, order, delay and id.

import assert from 'node:assert/strict';
import { apart, shown, within } from './wait.mjs';

/**
 * What a pair gets from the moment when its second peer joins: five times the 2 s that a late comer should wait, and something
 * for a busy machine. It is less than what then remains of the first peer's interval (40 s), so that a pair that meets only
 * because somebody announced again fails.
 */
export const MEET_WITHIN = 15_000;

/** How long two peers on nodes that do not know each other are watched, after both have announced. */
export const APART_FOR = 15_000;

/** How long a client may take to announce and to be answered. */
export const ANNOUNCED_WITHIN = 20_000;

let rooms = 0;

/** A room name that no other test uses. */
export function newRoom(what) {
  rooms += 1;
  return `${what}-${process.pid}-${rooms}-${Math.random().toString(36).slice(2)}`;
}

export function announced(tab, what) {
  return within(ANNOUNCED_WITHIN, `${what} gets the reply to its announce`, tab.signals.announced(), tab.detail);
}

/** What a suite plays of a pair: how many seconds apart, and on which node (0 is A) each of the two is. All with E2E_FULL, else a few. */
export const PAIRS = (process.env.E2E_FULL ? [0, 0.1, 1, 3, 10, 44] : [0, 3]).flatMap((delay) => [[0, 1], [1, 0]].map(([firstNode, secondNode]) => ({
  delay, firstNode, secondNode, title: `${delay === 0 ? 'together' : `${delay} s apart`}, ${delay === 0 ? 'one' : 'first'} on ${'AB'[firstNode]}, ${delay === 0 ? 'other' : 'second'} on ${'AB'[secondNode]}`,
})));

/**
 * Runs `first`, waits until it is `ready` (a tracker's client: has announced), waits `delay` seconds, runs `second`; with no
 * delay both at once. Answers the time at which the later of the two began.
 */
export async function inTurn({ delay, first, second }) {
  if (delay === 0) {
    return Math.max(...(await Promise.all([first.begin(), second.begin()])));
  }
  await first.begin();
  await (first.ready ? within(ANNOUNCED_WITHIN, 'the first peer is ready', first.ready(), first.tab.detail) : announced(first.tab, 'the first peer'));
  await apart(delay);
  return second.begin();
}

/** `n` Trystero tabs of the strategy that `page` has, from the smallest id to the largest. */
export async function trysteroTabs(browser, n = 2, page = 'trystero') {
  const tabs = await Promise.all(Array.from({ length: n }, () => browser.open(page)));
  const ids = await Promise.all(tabs.map((tab) => tab.call('id')));
  const peers = tabs.map((tab, i) => ({ tab, id: ids[i] }));
  // The comparison is the library's own.
  return peers.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Waits until two Trystero tabs have each received the other's greeting; answers the milliseconds since `began`. */
export async function trysteroMeet(one, two, began) {
  const [toOne, toTwo] = await Promise.all([hears(one, two), hears(two, one)]);
  assert.equal(toOne.text, `hello ${one.id} from ${two.id}`);
  assert.equal(toTwo.text, `hello ${two.id} from ${one.id}`);
  return Math.max(toOne.at, toTwo.at) - began;
}

function hears(me, other) {
  return within(MEET_WITHIN, `${me.id} hears ${other.id}`, me.tab.call('greetedBy', other.id),
    () => `${me.id}: ${me.tab.detail()}; ${other.id}: ${other.tab.detail()}`);
}

/** Prints one result, so that a run can be read afterwards. */
export function report(t, text, ms) {
  t.diagnostic(`${text}: ${shown(ms)}`);
}

/** Waits until `tab` has downloaded `file`; answers what it says of the download. */
export async function receives(tab, seeder, file) {
  const got = await within(MEET_WITHIN, 'the download is complete', tab.call('downloaded'),
    () => `leecher: ${tab.detail()}; seeder: ${seeder.detail()}`);
  assert.equal(got.bytes, file.size);
  assert.equal(got.sha256, file.sha256);
  assert.deepEqual([...new Set(got.wires.map((wire) => wire.type))], ['webrtc']);
  return got;
}

/** Waits until two P2PT tabs have each received the other's greeting; answers the milliseconds since `began`. */
export async function p2ptMeet(one, two, began) {
  const hears = (tab, other) => within(MEET_WITHIN, 'a P2PT peer is greeted', tab.call('greeted'),
    () => `it: ${tab.detail()}; the other: ${other.detail()}`);
  const [toOne, toTwo] = await Promise.all([hears(one, two), hears(two, one)]);
  const [idOne, idTwo] = await Promise.all([one.call('id'), two.call('id')]);
  assert.equal(toOne.text, `hello ${idOne} from ${idTwo}`);
  assert.equal(toTwo.text, `hello ${idTwo} from ${idOne}`);
  return Math.max(toOne.at, toTwo.at) - began;
}
