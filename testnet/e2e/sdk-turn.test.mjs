// Peers on networks where they do not reach each other by themselves, and nodes that are STUN and TURN servers.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { startCluster } from './cluster.mjs';
import { openFirefox } from './firefox.mjs';
import { openGo } from './gopeer.mjs';
import { ADDRESS, drop } from './network.mjs';
import { MEET_WITHIN, newRoom, report } from './scenes.mjs';
import { noFirefox } from './sdk.mjs';
import { apart, within } from './wait.mjs';

/** Nodes are on the browsers' address, and what is dropped is told apart by ports. */
const RELAYS = '20000-20999'; // not among those that the system gives to browsers
const TURN = ['--turn', '--turn-allow-private', '--turn-ports', RELAYS];
const RELAYED_WITHIN = 5 * 5_000;
const UPGRADED_WITHIN = 5 * 20_000;
const MENDED_WITHIN = 5 * 15_000;
const DIAGNOSED_WITHIN = 15_000;

let browser;
let firefox;

before(async () => {
  [browser, firefox] = await Promise.all([openBrowser(), noFirefox ? undefined : openFirefox()]);
});

after(async () => {
  await Promise.all([browser?.close(), firefox?.close()]);
});

/** UDP, but for what TURN servers say to each other. */
const UDP = [`ip daddr ${ADDRESS} udp sport != ${RELAYS}`, `ip daddr ${ADDRESS} udp dport != ${RELAYS}`];
/** TURN over TCP. */
const TCP = ['tcp dport 3478', 'tcp sport 3478'];

/** Runs `scene` while packets are dropped. It is given what lets those of one rule pass again before it has ended. */
async function dropping(rules, scene) {
  const dropped = new Map(rules.map((rule) => [rule, drop(...rule)]));
  try {
    await scene((rule) => dropped.get(rule)());
  } finally {
    for (const pass of dropped.values()) pass();
  }
}

async function withTabs(kinds, scene, options = {}) {
  const nodes = await startCluster({ nodes: 1, flags: TURN, host: ADDRESS, ...options });
  const tabs = await Promise.all(kinds.map((kind) => (kind === 'Firefox' ? firefox : browser).open('ways')));
  try {
    await scene(nodes, ...tabs);
  } finally {
    await Promise.all(tabs.map((tab) => tab.close()));
    await nodes.close();
  }
}

/** Waits until the state of a tab is as wanted. */
async function until(ms, what, tab, wanted) {
  let state;
  const poll = async () => {
    for (;;) {
      state = await tab.call('state');
      if (wanted(state)) return state;
      await apart(0.05);
    }
  };
  return within(ms, what, poll(), () => `${JSON.stringify(state)}; ${tab.detail()}`);
}

const connected = (path, transport) => ({ peers: [peer] }) => peer?.path === path && (transport === undefined || peer.way.transport === transport);

/** Two tabs, each on the last node, and what each says of the way to the other. */
async function ways(tabs, nodes, path, transport, options = {}, ms = MEET_WITHIN) {
  const app = newRoom('turn');
  const ids = [];
  for (const [i, tab] of tabs.entries()) ids.push(await tab.call('join', { urls: [nodes.ws.at(i === 0 ? 0 : -1)], app, ...options }));
  const states = await Promise.all(tabs.map((tab) => until(ms, `it goes by ${path} ${transport ?? ''}`, tab, connected(path, transport))));
  return { ids, ways: states.map(({ peers }) => peers[0].way) };
}

/** What each says comes to the other. */
async function talk(tabs) {
  for (const tab of tabs) assert.equal(await tab.call('say', 'hello'), 'sent');
  await Promise.all(tabs.map((tab) => until(MEET_WITHIN, 'it is told hello', tab, ({ heard }) => heard.some(([, text]) => text === 'hello'))));
}

/** Numbers that one counts, each once and in order. */
function assertCounted(numbers, atLeast) {
  assert.deepEqual(numbers, numbers.map((_, i) => (numbers[0] ?? 0) + i));
  assert.ok(numbers.length >= atLeast, `${numbers.length} of ${atLeast} came`);
}

/** Waits until a tab has heard a higher number. */
function heardAbove(tab, id, number) {
  const goesOn = async () => {
    while (((await tab.call('numbers', id)).at(-1) ?? 0) <= number) await apart(0.05);
  };
  return within(MENDED_WITHIN, 'messages come again', goesOn(), () => tab.detail());
}

async function diagnosed(tab, options) {
  const before = await tab.call('connections');
  const found = await within(DIAGNOSED_WITHIN, 'the diagnosis ends', tab.call('diagnose', options), () => tab.detail());
  assert.ok(found.took <= 10_000, `${found.took} ms`);
  assert.equal(await tab.call('connections'), before);
  return found;
}

const codes = ({ troubles }) => troubles.map(({ code }) => code);

const PAIRS = [['Chromium', 'Chromium'], ['Firefox', 'Firefox'], ['Firefox', 'Chromium']];

for (const kinds of PAIRS) {
  const skip = kinds.includes('Firefox') && noFirefox;
  const title = kinds.join(' and ');

  test(`${title}: directly, although there is TURN; the diagnosis finds no trouble`, { skip }, (t) => withTabs(kinds, async (nodes, ...tabs) => {
    const met = await ways(tabs, nodes, 'direct');
    assert.deepEqual(met.ways, [{ path: 'direct' }, { path: 'direct' }]);
    await talk(tabs);
    for (const [i, tab] of tabs.entries()) {
      const used = await tab.call('servers', met.ids[1 - i]);
      assert.deepEqual(used.map((url) => url.replace(/:\d+(?=$|\?)/, '')), ['stun:10.99.0.1', 'stun:10.99.0.1', 'turn:10.99.0.1?transport=udp']);
      const found = await diagnosed(tab);
      report(t, `${kinds[i]}: diagnosed`, found.took);
      assert.deepEqual(codes(found), []);
      assert.deepEqual([found.ok, found.node.ok, found.udp, found.stun.length], [true, true, 'open', 2]);
      assert.deepEqual(found.turn.map(({ transport, ok }) => [transport, ok]), [['udp', true], ['tcp', true], ['udp', true], ['tcp', true]]);
      assert.deepEqual(found.peers.map(({ id, path }) => [id, path]), [[met.ids[1 - i], 'direct']]);
      assert.doesNotMatch(JSON.stringify({ ...found, node: '', stun: '', turn: '' }), /10\.99/);
      assert.deepEqual(await tab.call('aborted'), { opened: 7, found: 'AbortError', left: 0 });
    }
  }, { nodes: 2 }));

  test(`${title}: over TURN alone, because the app wants that`, { skip }, () => withTabs(kinds, async (nodes, ...tabs) => {
    const met = await ways(tabs, nodes, 'turn', 'udp', { iceTransportPolicy: 'relay' });
    assert.deepEqual(met.ways, Array(2).fill({ path: 'turn', server: 'both', transport: 'udp', noDirect: 'forbidden' }));
    await talk(tabs);
  }));

  test(`${title}: UDP is dropped: over TURN by TCP`, { skip }, (t) => withTabs(kinds, (nodes, ...tabs) => dropping([UDP], async () => {
    const began = Date.now();
    const met = await ways(tabs, nodes, 'turn', 'tcp', {}, RELAYED_WITHIN);
    report(t, 'over TURN', Date.now() - began);
    assert.deepEqual(met.ways, Array(2).fill({ path: 'turn', server: 'both', transport: 'tcp', noDirect: 'no_reply' }));
    await talk(tabs);
    const found = await diagnosed(tabs[0]);
    report(t, 'diagnosed', found.took);
    assert.deepEqual([found.udp, codes(found)], ['blocked', ['udp_blocked']]);
    assert.deepEqual(found.turn.map(({ transport, ok }) => [transport, ok]), [['udp', false], ['tcp', true]]);
  })));
}

test('only TLS passes: over TURN by TLS', (t) => dropping([UDP, TCP], async () => {
  const folder = mkdtempSync(join(tmpdir(), 'certificate-'));
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => join(folder, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1', '-subj', '/CN=e2e',
    '-addext', `subjectAltName=IP:${ADDRESS}`, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const careless = await openBrowser({ flags: ['--ignore-certificate-errors'] });
  const nodes = await startCluster({ nodes: 1, federate: false, flags: [...TURN, '--tls-cert', cert, '--tls-key', key], host: ADDRESS });
  try {
    const tabs = [await careless.open('ways'), await careless.open('ways')];
    const tls = { ws: nodes.ws.map((url) => url.replace('ws:', 'wss:')) };
    const began = Date.now();
    const met = await ways(tabs, tls, 'turn', 'tls', {}, RELAYED_WITHIN);
    report(t, 'over TURN', Date.now() - began);
    assert.deepEqual(met.ways, Array(2).fill({ path: 'turn', server: 'both', transport: 'tls', noDirect: 'no_reply' }));
    await talk(tabs);
    const found = await diagnosed(tabs[0]);
    report(t, 'diagnosed', found.took);
    assert.deepEqual(codes(found), ['udp_blocked', 'turn_no_reply']);
  } finally {
    await careless.close();
    await nodes.close();
    rmSync(folder, { recursive: true });
  }
}));

test('a tab and a Go peer: UDP is dropped: over TURN by TCP', (t) => withTabs(['Chromium'], (nodes, tab) => dropping([UDP], async () => {
  const go = openGo();
  try {
    const app = newRoom('turn');
    const id = await tab.call('join', { urls: nodes.ws, app });
    const began = Date.now();
    await go.call('join', { urls: nodes.ws, app });
    await until(RELAYED_WITHIN, 'it goes over TURN', tab, connected('turn', 'tcp'));
    report(t, 'over TURN', Date.now() - began);
    assert.equal(await tab.call('say', 'hello'), 'sent');
    await within(MEET_WITHIN, 'the Go peer hears it', go.call('hears', id), () => go.detail());
  } finally {
    await go.close();
  }
})));

test('all is dropped but the node: over nodes; then TURN by TCP passes, and no message is lost, doubled or out of order', (t) => withTabs(['Chromium', 'Chromium'], async (nodes, ...tabs) => {
  await dropping([UDP, TCP], async (pass) => {
    const met = await ways(tabs, nodes, 'nodes', undefined, {}, RELAYED_WITHIN);
    assert.deepEqual(met.ways, Array(2).fill({ path: 'nodes', noDirect: 'no_reply', noTurn: 'turn_failed' }));
    const found = await diagnosed(tabs[0]);
    assert.deepEqual(codes(found), ['udp_blocked', 'turn_no_reply', 'peers_over_nodes']);
    await Promise.all(tabs.map((tab) => tab.call('count', 20)));
    await apart(2);
    pass(TCP);
    const began = Date.now();
    await Promise.all(tabs.map((tab) => until(UPGRADED_WITHIN, 'it goes over TURN', tab, connected('turn', 'tcp'))));
    report(t, 'over TURN', Date.now() - began);
    await apart(1);
    await Promise.all(tabs.map((tab) => tab.call('stop')));
    await apart(1);
    for (const [i, tab] of tabs.entries()) {
      const numbers = await tab.call('numbers', met.ids[1 - i]);
      assert.equal(numbers[0], 1);
      assertCounted(numbers, 100);
      const { events } = await tab.call('state');
      assert.deepEqual(events.map(([event, , more]) => [event, more]), [['peer', undefined], ['path', 'turn']]);
    }
  });
}));

test('UDP stops to pass between two who are connected: over TURN by TCP, and nothing is lost', (t) => withTabs(['Chromium', 'Chromium'], async (nodes, ...tabs) => {
  const { ids } = await ways(tabs, nodes, 'direct');
  await Promise.all(tabs.map((tab) => tab.call('count', 50)));
  await apart(2);
  await dropping([UDP], async () => {
    const began = Date.now();
    await Promise.all(tabs.map((tab) => until(MENDED_WITHIN, 'it goes over TURN', tab, connected('turn', 'tcp'))));
    report(t, 'over TURN', Date.now() - began);
    const { counted } = await tabs[0].call('state');
    await heardAbove(tabs[1], ids[0], counted);
    report(t, 'messages', Date.now() - began);
    await Promise.all(tabs.map((tab) => tab.call('stop')));
    await apart(1);
    for (const [i, tab] of tabs.entries()) {
      assertCounted(await tab.call('numbers', ids[1 - i]), 60);
      assert.deepEqual((await tab.call('state')).events.map(([event, , more]) => [event, more]), [['peer', undefined], ['path', 'turn']]);
    }
  });
}));

test('UDP stops to pass in the middle of a transfer: it goes on over TURN', (t) => withTabs(['Chromium', 'Chromium'], async (nodes, ...tabs) => {
  await ways(tabs, nodes, 'direct');
  tabs[0].call('flood').catch(() => {});
  const above = async (bytes) => {
    while ((await tabs[1].call('flooded')) <= bytes) await apart(0.05);
  };
  await within(MEET_WITHIN, 'it begins', above(1 << 20));
  await apart(11); // a connection that is as new as that is given more time
  await dropping([UDP], async () => {
    const began = Date.now();
    await apart(0.5);
    await within(MENDED_WITHIN, 'it goes on', above((await tabs[1].call('flooded')) + (1 << 20)), () => tabs[1].detail());
    report(t, 'goes on', Date.now() - began);
    await tabs[0].call('stop');
    for (const tab of tabs) assert.deepEqual((await tab.call('state')).events.map(([event, , more]) => [event, more]), [['peer', undefined], ['path', 'turn']]);
  });
}));

test('credentials are renewed before they expire: another allocation, and messages come all the while', (t) => withTabs(['Chromium', 'Chromium'], async (nodes, ...tabs) => {
  const { ids } = await ways(tabs, nodes, 'turn', 'udp', { iceTransportPolicy: 'relay', ttl: 30 });
  const before = await tabs[0].call('fragment', ids[1]);
  const began = Date.now();
  await Promise.all(tabs.map((tab) => tab.call('count', 50)));
  const renewed = async () => {
    while ((await tabs[0].call('fragment', ids[1])) === before) await apart(0.1);
  };
  await within(5 * 23_000, 'it restarts', renewed(), () => tabs[0].detail());
  report(t, 'renewed', Date.now() - began);
  await apart(3);
  await Promise.all(tabs.map((tab) => tab.call('stop')));
  await apart(1);
  for (const [i, tab] of tabs.entries()) {
    assertCounted(await tab.call('numbers', ids[1 - i]), (Date.now() - began) / 100);
    const { events, peers } = await tab.call('state');
    assert.deepEqual([events.map(([event, , , transport]) => [event, transport]), peers[0].way.transport], [[['peer', 'udp']], 'udp']);
  }
}));

test('servers that the app names replace the node\'s, and so do none', () => withTabs(['Chromium', 'Chromium'], async (nodes, ...tabs) => {
  const { ids } = await ways(tabs, nodes, 'direct', undefined, { iceServers: [] });
  assert.deepEqual(await tabs[0].call('servers', ids[1]), []);
  assert.deepEqual(codes(await diagnosed(tabs[0])), ['no_servers']);
}));

test('the app wants no servers, and UDP is dropped: over nodes', () => withTabs(['Chromium', 'Chromium'], (nodes, ...tabs) => dropping([UDP], async () => {
  const met = await ways(tabs, nodes, 'nodes', undefined, { iceServers: [] }, RELAYED_WITHIN);
  assert.deepEqual(met.ways, Array(2).fill({ path: 'nodes', noDirect: 'no_reply', noTurn: 'forbidden' }));
})));

test('nothing passes for 10 s: it goes on, without a new join, and nothing is lost', (t) => withTabs(['Chromium', 'Chromium'], async (nodes, ...tabs) => {
  const { ids } = await ways(tabs, nodes, 'direct');
  await Promise.all(tabs.map((tab) => tab.call('count', 50)));
  await dropping([[`ip daddr ${ADDRESS}`]], () => apart(10));
  const [{ counted }, began] = [await tabs[0].call('state'), Date.now()];
  await heardAbove(tabs[1], ids[0], counted);
  report(t, 'messages', Date.now() - began);
  await Promise.all(tabs.map((tab) => until(MENDED_WITHIN, 'it has a node', tab, ({ node }) => node !== undefined)));
  report(t, 'node', Date.now() - began);
  await Promise.all(tabs.map((tab) => tab.call('stop')));
  await apart(1);
  for (const [i, tab] of tabs.entries()) {
    assertCounted(await tab.call('numbers', ids[1 - i]), 100);
    assert.deepEqual((await tab.call('state')).events.map(([event]) => event), ['peer']);
  }
}));
