// Nodes that are kept from one visit of a page to the next.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cachedNodes, cacheNodes } from '../src/cache.ts';

const key = (n: number) => new Uint8Array(32).fill(n);
const urls = () => cachedNodes().map(({ url }) => url);

function withStorage(scene: (kept: Map<string, string>) => void): void {
  const kept = new Map<string, string>();
  const storage = { getItem: (name: string) => kept.get(name) ?? null, setItem: (name: string, value: string) => void kept.set(name, value) };
  Object.defineProperty(globalThis, 'localStorage', { value: storage, configurable: true });
  try {
    scene(kept);
  } finally {
    Reflect.deleteProperty(globalThis, 'localStorage');
  }
}

test('nodes are kept, the newest of them', () => withStorage(() => {
  assert.deepEqual(urls(), []);
  cacheNodes([{ url: 'wss://a.example', key: key(1) }, { url: 'wss://b.example', key: key(2) }]);
  assert.deepEqual(cachedNodes(), [{ url: 'wss://a.example', key: key(1) }, { url: 'wss://b.example', key: key(2) }]);
  cacheNodes([{ url: 'wss://a.example', key: key(3) }]);
  assert.deepEqual(cachedNodes(), [{ url: 'wss://b.example', key: key(2) }, { url: 'wss://a.example', key: key(3) }]);
  cacheNodes(Array.from({ length: 40 }, (_, i) => ({ url: `wss://${i}.example`, key: key(i) })));
  assert.equal(urls().length, 32);
  assert.equal(urls().at(-1), 'wss://39.example');
}));

test('what is not ours is no node', () => withStorage((kept) => {
  for (const text of ['{', '7', '[1,null,{}]', '[{"url":"https://x","key":"00"}]', `[{"url":"wss://x/path","key":"${'00'.repeat(32)}"}]`, '[{"url":"wss://x","key":"zz"}]']) {
    kept.set('peerserver.nodes', text);
    assert.deepEqual(urls(), [], text);
  }
}));

test('where nothing can be kept nothing is', () => {
  cacheNodes([{ url: 'wss://a.example', key: key(1) }]);
  assert.deepEqual(urls(), []);
});
