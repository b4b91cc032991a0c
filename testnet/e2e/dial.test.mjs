// Peers that are dialled by an address: tabs and Go, both ways.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { report } from './scenes.mjs';
import { meet, openPeers } from './sdk.mjs';
import { startNodes } from './servers.mjs';

const NODE = /(?<=\/p2p-webrtc-signal\/)[^/]+/;

let nodes;
let peers;

before(async () => {
  nodes = await startNodes({ nodes: 2 });
  peers = await openPeers();
});

after(async () => {
  await peers?.close();
  await nodes?.close();
});

for (const [dials, listens] of [['Chromium', 'Go'], ['Go', 'Chromium'], ['Chromium', 'Chromium']]) {
  test(`${dials} dials ${listens}`, (t) => peers.play([dials, listens, 'Chromium'], async (one, two, third) => {
    const [address] = await two.call('listen', { urls: [nodes.ws[0]], name: 'Bob' });
    assert.equal(address.split('/').at(-1), await two.call('id'));
    report(t, 'messages both ways, since it was dialled', await meet(one, two, await one.call('dial', { address, name: 'Ada' })));
    await third.call('dial', { address, name: 'Eve' });
    await third.call('sees', 1);
    await two.call('sees', 2);
    // Those who dial meet whom they have dialled, and not each other.
    assert.deepEqual((await one.call('peers')).map((peer) => peer.name), ['Bob']);
    assert.deepEqual((await third.call('peers')).map((peer) => peer.name), ['Bob']);
    const id = await third.call('id');
    await third.call('closes');
    await two.call('loses', id);
  }));
}

test('what is not as the address says is refused', () => peers.play(['Chromium', 'Chromium', 'Go'], async (one, two, go) => {
  const [address] = await go.call('listen', { urls: [nodes.ws[0]], name: 'Bob' });
  const [elsewhere] = await two.call('listen', { urls: [nodes.ws[1]], name: 'Eve' });
  const refused = (to, timeout = 3000) => one.call('refused', { address: to, timeout });
  assert.equal(await refused('wss://node.example'), 'malformed');
  assert.equal(await refused(address.replace(NODE, NODE.exec(elsewhere)[0])), 'denied');
  const nobody = 'y'.repeat(52);
  assert.equal(await refused(address.slice(0, -52) + nobody, 500), 'unknown_peer');
  assert.deepEqual(await go.call('peers'), []);
}));
