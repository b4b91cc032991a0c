// How peers are connected: directly, over nodes while UDP does not pass, through each other while there is no node.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, createServer as createTCP } from 'node:net';
import { after, before, test } from 'node:test';
import wrtc from '@roamhq/wrtc';
import WebSocket from 'ws';
import { openBrowser } from './browser.mjs';
import { startCluster } from './cluster.mjs';
import { openGo } from './gopeer.mjs';
import { ADDRESS, drop, ip } from './network.mjs';
import { MEET_WITHIN, newRoom, report } from './scenes.mjs';
import { startNodes } from './servers.mjs';
import { apart, within } from './wait.mjs';

const RELAYED_WITHIN = 5 * 5_000;
const UPGRADED_WITHIN = 5 * 20_000;
const MENDED_WITHIN = 5 * 15_000;
const MOVED_WITHIN = 5 * 6_000;

let browser;

before(async () => {
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
});

/** UDP between browsers; nodes are on loopback. */
const dropUDP = () => drop(`ip daddr ${ADDRESS} meta l4proto udp`);

/** The machine is on another network. */
function readdress(from, to) {
  ip('addr', 'del', `${from}/24`, 'dev', 'v0');
  ip('addr', 'add', `${to}/24`, 'dev', 'v0');
  ip('route', 'add', 'default', 'via', '10.99.0.2');
}

/** Nodes without STUN and TURN, as those of a testnet have it: by these on loopback the tabs would always find a way. */
const withoutICE = (nodes) => startCluster({ nodes, flags: ['--stun', 'none'] });

async function withTabs(n, scene) {
  const tabs = await Promise.all(Array.from({ length: n }, () => browser.open('ways')));
  try {
    await scene(...tabs);
  } finally {
    await Promise.all(tabs.map((tab) => tab.close()));
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

const connected = (n, path) => (state) => state.peers.filter((peer) => path === undefined || peer.path === path).length >= n;

/** Each number once, and in order. */
function assertCounted(numbers, atLeast) {
  assert.deepEqual(numbers, numbers.map((_, i) => (numbers[0] ?? 0) + i));
  assert.ok(numbers.length >= atLeast, `${numbers.length} of ${atLeast} came`);
}

test('UDP does not pass: over nodes; it passes again: directly, and no message is lost, doubled or out of order', (t) => withTabs(2, async (one, two) => {
  const nodes = await withoutICE(2);
  const pass = dropUDP();
  try {
    const app = newRoom('ways');
    const ids = [await one.call('join', { urls: [nodes.ws[0]], app, name: 'Ada' }), await two.call('join', { urls: [nodes.ws[1]], app, name: 'Bob' })];
    let began = Date.now();
    await Promise.all([one, two].map((tab) => until(RELAYED_WITHIN, 'it is relayed', tab, connected(1, 'nodes'))));
    report(t, 'relayed', Date.now() - began);
    assert.deepEqual(await one.call('calls', [1, 2]), [{ value: 3 }]);
    await Promise.all([one.call('count', 20), two.call('count', 20)]);
    await apart(2);
    pass();
    began = Date.now();
    await Promise.all([one, two].map((tab) => until(UPGRADED_WITHIN, 'it is direct', tab, connected(1, 'direct'))));
    report(t, 'direct', Date.now() - began);
    await apart(1);
    await Promise.all([one.call('stop'), two.call('stop')]);
    await apart(1);
    const numbers = [await one.call('numbers', ids[1]), await two.call('numbers', ids[0])];
    for (const list of numbers) {
      assert.equal(list[0], 1);
      assertCounted(list, 100);
    }
    for (const tab of [one, two]) {
      const { events } = await tab.call('state');
      assert.deepEqual(events.map(([event, , more]) => [event, more]), [['peer', undefined], ['path', 'direct']]);
    }
  } finally {
    pass();
    await nodes.close();
  }
}));

for (const goFirst of [true, false]) {
  test(`UDP does not pass between a tab and a Go peer, ${goFirst ? 'Go' : 'the tab'} first: over nodes, then directly`, (t) => withTabs(1, async (tab) => {
    const nodes = await withoutICE(2);
    const go = openGo();
    const pass = dropUDP();
    try {
      const app = newRoom('ways');
      let id;
      const joins = [() => go.call('join', { urls: [nodes.ws[0]], app, name: 'Go' }), async () => { id = await tab.call('join', { urls: [nodes.ws[1]], app }); }];
      for (const join of goFirst ? joins : joins.reverse()) await join();
      await until(RELAYED_WITHIN, 'it is relayed', tab, connected(1, 'nodes'));
      await tab.call('count', 50);
      await within(RELAYED_WITHIN, 'the Go peer hears it', go.call('hears', id), () => go.detail());
      await apart(2);
      pass();
      const began = Date.now();
      await until(UPGRADED_WITHIN, 'it is direct', tab, connected(1, 'direct'));
      report(t, 'direct', Date.now() - began);
      await apart(1);
      await tab.call('stop');
      const last = (await tab.call('state')).counted;
      const all = async () => {
        while (Number((await go.call('heard')).at(-1).text) !== last) await apart(0.05);
      };
      await within(MEET_WITHIN, 'the last one comes', all(), () => go.detail());
      const numbers = (await go.call('heard')).map((e) => Number(e.text));
      assert.equal(numbers[0], 1);
      assertCounted(numbers, 40);
      await tab.call('leave');
      await within(MEET_WITHIN, 'the Go peer sees it leave', go.call('loses', id), () => go.detail());
    } finally {
      pass();
      await go.close();
      await nodes.close();
    }
  }));
}

test('noRelay: never over nodes', (t) => withTabs(2, async (one, two) => {
  const nodes = await withoutICE(1);
  const pass = dropUDP();
  try {
    const app = newRoom('ways');
    await one.call('join', { urls: nodes.ws, app });
    await two.call('join', { urls: nodes.ws, app, noRelay: true });
    await apart(8);
    for (const tab of [one, two]) assert.deepEqual((await tab.call('state')).events, []);
  } finally {
    pass();
    await nodes.close();
  }
}));

test('all nodes are killed: two who have lost each other meet again through a third', (t) => withTabs(3, async (one, two, third) => {
  const nodes = await startNodes({ nodes: 2, processes: true });
  try {
    const app = newRoom('ways');
    const ids = [];
    for (const [i, tab] of [one, two, third].entries()) ids.push(await tab.call('join', { urls: [nodes.ws[i % 2]], app }));
    const linked = (state) => state.peers.length === 2 && state.peers.every((peer) => peer.links.length === 1);
    await Promise.all([one, two, third].map((tab) => until(MEET_WITHIN, 'all are connected, and say so', tab, linked)));
    nodes.kill(0);
    nodes.kill(1);
    await Promise.all([one, two, third].map((tab) => until(MOVED_WITHIN, 'it has no node', tab, (state) => state.node === undefined)));
    const began = Date.now();
    await one.call('cut', ids[1]);
    const again = (state) => state.peers.length === 2 && state.events.some(([event]) => event === 'leave');
    await until(MENDED_WITHIN, 'it is connected again', two, again);
    report(t, 'connected again', Date.now() - began);
    assert.equal((await two.call('state')).node, undefined);
  } finally {
    await nodes.close();
  }
}));

test('a broadcast comes once to those who are connected, and once to the others', (t) => withTabs(4, async (...tabs) => {
  const nodes = await startNodes({ nodes: 2 });
  try {
    const app = newRoom('ways');
    const ids = [];
    for (const [i, tab] of tabs.entries()) ids.push(await tab.call('join', { urls: [nodes.ws[i % 2]], app, maxPeers: 1 }));
    await Promise.all(tabs.map((tab) => until(MEET_WITHIN, 'it knows of three', tab, (state) => state.members === 3)));
    for (const [i, tab] of tabs.entries()) assert.equal(await tab.call('say', `from ${i}`), 'sent');
    const came = ({ heard, broadcasts }) => [...heard, ...broadcasts].length >= 3;
    const states = await Promise.all(tabs.map((tab) => until(MEET_WITHIN, 'it has heard from three', tab, came)));
    await apart(1);
    let beyond = 0;
    for (const [i, tab] of tabs.entries()) {
      const { heard, broadcasts } = await tab.call('state');
      assert.deepEqual([...heard, ...broadcasts].sort(), ids.map((id, from) => [id, `from ${from}`]).filter((_, from) => from !== i).sort());
      beyond += broadcasts.length;
    }
    assert.ok(beyond > 0, JSON.stringify(states));
  } finally {
    await nodes.close();
  }
}));

test('the network goes and comes back with another address: an ICE restart, and channels live on', (t) => withTabs(2, async (one, two) => {
  const nodes = await withoutICE(1);
  try {
    const app = newRoom('ways');
    const ids = [await one.call('join', { urls: nodes.ws, app }), await two.call('join', { urls: nodes.ws, app })];
    await Promise.all([one, two].map((tab) => until(MEET_WITHIN, 'it is connected', tab, connected(1, 'direct'))));
    const before = await one.call('fragment', ids[1]);
    await Promise.all([one.call('count', 50), two.call('count', 50)]);
    const began = Date.now();
    readdress(ADDRESS, '10.99.0.7');
    const mended = async () => {
      while ((await one.call('fragment', ids[1])) === before || (await one.call('connectionState', ids[1])) !== 'connected') await apart(0.1);
    };
    await within(MENDED_WITHIN, 'it is mended', mended(), () => one.detail());
    report(t, 'mended', Date.now() - began);
    // SCTP has doubled its patience all the while.
    for (const tab of [one, two]) await until(2 * MENDED_WITHIN, 'messages come again', tab, (state) => state.heard.length > 200);
    report(t, 'messages', Date.now() - began);
    await Promise.all([one.call('stop'), two.call('stop')]);
    await apart(1);
    assertCounted(await one.call('numbers', ids[1]), 200);
    assertCounted(await two.call('numbers', ids[0]), 200);
    for (const tab of [one, two]) assert.deepEqual((await tab.call('state')).events.map(([event]) => event), ['peer']);
  } finally {
    readdress('10.99.0.7', ADDRESS);
    await nodes.close();
  }
}));

/** A page of plain http, of an address that is not this machine's own: the browser gives it no WebCrypto. */
async function plainSite(sdk) {
  const page = `<!doctype html><title>plain</title><script type="module">
    import { join, keptIdentity } from '${sdk}'
    globalThis.peer = {
      async join(options) {
        const identity = await keptIdentity()
        const room = await join(options.app, { ...options, identity })
        const heard = []
        room.on('message', (peer, data) => heard.push(new TextDecoder().decode(data)))
        room.on('peer', (peer) => peer.send('from plain http'))
        peer.heard = () => heard
        return [typeof crypto.subtle, room.id, identity.key.length]
      },
    }
    globalThis.ready = true
  </script>`;
  const server = createServer((_, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end(page));
  server.listen(0, ADDRESS);
  await once(server, 'listening');
  return { origin: `http://${ADDRESS}:${server.address().port}`, close: () => new Promise((done) => server.close(done)) };
}

test('a page without WebCrypto meets one with it', () => withTabs(1, async (one) => {
  const nodes = await startNodes({ nodes: 1 });
  const site = await plainSite(`${nodes.ws[0].replace('ws:', 'http:')}/sdk.js`);
  const context = await one.context.browser().newContext();
  try {
    const page = await context.newPage();
    const said = [];
    page.on('console', (message) => said.push(message.text()));
    page.on('pageerror', (err) => said.push(err.message));
    await page.goto(site.origin);
    await within(MEET_WITHIN, 'the SDK loads', page.waitForFunction('globalThis.ready'), () => said.join(' | '));
    const app = newRoom('ways');
    await one.call('join', { urls: nodes.ws, app });
    const [subtle, id, size] = await within(MEET_WITHIN, 'it joins', page.evaluate((options) => globalThis.peer.join(options), { nodes: nodes.ws, app }), () => said.join(' | '));
    assert.deepEqual([subtle, size], ['undefined', 32]);
    const state = await until(MEET_WITHIN, 'it is heard', one, ({ heard }) => heard.length > 0);
    assert.deepEqual(state.heard, [[id, 'from plain http']]);
    await one.call('say', 'from the other');
    await within(MEET_WITHIN, 'it hears', page.waitForFunction('peer.heard()[0] === "from the other"'), () => said.join(' | '));
  } finally {
    await context.close();
    await site.close();
    await nodes.close();
  }
}));

test('Node, with a WebRTC and a WebSocket implementation handed in, and the module that nodes serve', () => withTabs(1, async (one) => {
  const nodes = await startNodes({ nodes: 1 });
  const { join } = await import('../../peer/browser/dist/sdk.js');
  const app = newRoom('ways');
  const heard = [];
  let room;
  try {
    const id = await one.call('join', { urls: nodes.ws, app, name: 'Ada' });
    room = await join(app, { nodes: nodes.ws, name: 'Node', rtc: wrtc.RTCPeerConnection, webSocket: WebSocket });
    room.on('message', (peer, data) => heard.push([peer.id, peer.path, new TextDecoder().decode(data)]));
    const first = await within(MEET_WITHIN, 'they meet', new Promise((resolve) => room.on('peer', resolve)), () => one.detail());
    assert.deepEqual([first.id, first.name], [id, 'Ada']);
    assert.equal(await first.call('add', [2, 3]), 5);
    await first.send('from Node');
    await until(MEET_WITHIN, 'it is heard', one, (state) => state.heard.some(([, text]) => text === 'from Node'));
    await one.call('say', 'from the tab');
    const hears = async () => {
      while (heard.length === 0) await apart(0.05);
    };
    await within(MEET_WITHIN, 'it hears', hears());
    assert.deepEqual(heard, [[id, 'direct', 'from the tab']]);
    await room.leave();
    await until(MEET_WITHIN, 'it has left', one, (state) => state.events.some(([event, , lost]) => event === 'leave' && lost === false));
  } finally {
    await room?.leave();
    await nodes.close();
  }
}));

/** A way to a node whose connections can be cut, and kept from coming back. */
async function cable(url) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  let cut = false;
  const server = createTCP((client) => {
    if (cut) return void client.destroy();
    const node = connect(port, hostname);
    for (const [one, other] of [[client, node], [node, client]]) {
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const pull = () => {
    cut = true;
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `ws://127.0.0.1:${server.address().port}`,
    pull,
    close: () => {
      pull();
      return new Promise((done) => server.close(done));
    },
  };
}

test('a socket breaks for a moment: nobody is told, and who came meanwhile is met', () => withTabs(3, async (one, two, third) => {
  const nodes = await startNodes({ nodes: 1 });
  const line = await cable(nodes.ws[0]);
  try {
    const app = newRoom('ways');
    const id = await one.call('join', { urls: [line.url], app, name: 'One' });
    await two.call('join', { urls: nodes.ws, app, name: 'Two' });
    await Promise.all([one, two].map((tab) => until(MEET_WITHIN, 'it is connected', tab, connected(1, 'direct'))));
    line.pull();
    await third.call('join', { urls: nodes.ws, app, name: 'Third' });
    await until(MEET_WITHIN, 'it is back, by the node\'s own URL', one, (state) => state.node === nodes.ws[0]);
    await Promise.all([one, two, third].map((tab) => until(MEET_WITHIN, 'it is connected to two', tab, connected(2, 'direct'))));
    for (const tab of [one, two, third]) {
      const { events, members, peers } = await tab.call('state');
      assert.deepEqual([events.filter(([event]) => event === 'leave'), members, peers.filter(({ lost }) => lost)], [[], 2, []]);
    }
    assert.ok((await third.call('state')).peers.some((peer) => peer.id === id));
  } finally {
    await line.close();
    await nodes.close();
  }
}));
