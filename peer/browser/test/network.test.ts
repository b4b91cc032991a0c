// What the browser tells of the network, and what is made of it.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { onNetworkChange } from '../src/network.ts';

test('another kind of network, or one again, is a change; another estimate of its speed is a doubt, at most every 5 s', () => {
  const window = new EventTarget();
  const connection = Object.assign(new EventTarget(), { type: 'wifi' as string | undefined });
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperties(globalThis, { window: { value: window, configurable: true }, navigator: { value: { connection }, configurable: true } });
  let now = 0;
  const clock = mock.method(performance, 'now', () => now);
  try {
    let [changes, doubts] = [0, 0];
    const offs = onNetworkChange(() => changes++, () => doubts++);
    const change = () => connection.dispatchEvent(new Event('change'));
    window.dispatchEvent(new Event('online'));
    assert.deepEqual([changes, doubts], [1, 0]);
    connection.type = 'cellular';
    change();
    assert.deepEqual([changes, doubts], [2, 0]);
    for (let i = 0; i < 10; i++) change();
    assert.deepEqual([changes, doubts], [2, 1]);
    now = 5001;
    change();
    assert.deepEqual([changes, doubts], [2, 2]);
    for (const off of offs) off();
    window.dispatchEvent(new Event('online'));
    change();
    assert.deepEqual([changes, doubts], [2, 2]);
  } finally {
    clock.mock.restore();
    Reflect.deleteProperty(globalThis, 'window');
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else Reflect.deleteProperty(globalThis, 'navigator');
  }
});
