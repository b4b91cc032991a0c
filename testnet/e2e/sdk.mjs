// What the suites of the SDK share: peers of every kind, and how two of them meet.

import assert from 'node:assert/strict';
import { openBrowser } from './browser.mjs';
import { openFirefox } from './firefox.mjs';
import { openGo } from './gopeer.mjs';
import { MEET_WITHIN } from './scenes.mjs';
import { within } from './wait.mjs';

/** Why scenes with Firefox are skipped, or false. */
export const noFirefox = process.env.E2E_FIREFOX ? false : 'there is no Firefox; E2E_FIREFOX=/path/to/it names one';

/** Starts Chromium and, for `firefox`, Firefox too, if there is one. Close it in `after`. */
export async function openPeers({ firefox = false } = {}) {
  const opened = await Promise.allSettled([openBrowser(), firefox && !noFirefox ? openFirefox() : undefined]);
  const close = async () => void (await Promise.all(opened.map((browser) => browser.value?.close())));
  const failed = opened.find((browser) => browser.status === 'rejected');
  if (failed) {
    await close();
    throw failed.reason;
  }
  const [chromium, fox] = opened.map((browser) => browser.value);
  const kinds = { Chromium: () => chromium.open('sdk'), Firefox: () => fox.open('sdk'), Go: openGo };
  return {
    /** Runs `scene` with a peer of each of `kinds`: Chromium, Firefox, Go. They have yet to join. */
    play: async (names, scene) => {
      const peers = await Promise.all(names.map((name) => kinds[name]()));
      try {
        await scene(...peers);
      } finally {
        await Promise.all(peers.map((peer) => peer.close()));
      }
    },
    chromium,
    close,
  };
}

/** Waits until both have heard the other's greeting; answers the milliseconds since `began`. */
export async function meet(one, two, began, ms = MEET_WITHIN) {
  const [idOne, idTwo] = await Promise.all([one.call('id'), two.call('id')]);
  const hears = async (peer, me, other, from) => {
    const said = await within(ms, `${me.slice(0, 8)} hears ${other.slice(0, 8)}`, peer.call('hears', other), () => `it: ${peer.detail()}; the other: ${from.detail()}`);
    assert.equal(said.text, `hello ${me} from ${other}`);
    return said.at;
  };
  return Math.max(...(await Promise.all([hears(one, idOne, idTwo, two), hears(two, idTwo, idOne, one)]))) - began;
}
