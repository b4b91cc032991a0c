// anacrolix/torrent's WebTorrent client (testnet/torrent) on A and webtorrent in Chromium on B exchange a file, both ways.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openBrowser } from './browser.mjs';
import { Program } from './program.mjs';
import { ANNOUNCED_WITHIN, MEET_WITHIN, announced, receives, report } from './scenes.mjs';
import { startNodes } from './servers.mjs';
import { describeTorrent } from './torrent.mjs';
import { apart } from './wait.mjs';

const SIZE = 5_000_000;

let nodes;
let browser;
let files = 1000;

before(async () => {
  nodes = await startNodes({ nodes: 2 });
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await nodes?.close();
});

describe('anacrolix/torrent on A, webtorrent on B', { concurrency: 4 }, () => {
  for (const goSeeds of [true, false]) {
    for (const goFirst of [true, false]) {
      test(`${goSeeds ? 'A seeds' : 'B seeds'}, ${goFirst ? 'A' : 'B'} comes first`, (t) => transfer(t, { goSeeds, goFirst }));
    }
  }
});

async function transfer(t, { goSeeds, goFirst }) {
  files += 1;
  const file = describeTorrent(SIZE, files);
  const { size, seed, infoHash } = file;
  const [a, b] = nodes.ws;
  const tab = await browser.open('webtorrent');
  let program;
  const startGo = async () => {
    const args = goSeeds ? ['seed', '-size', `${size}`, '-seed', `${seed}`] : ['download', '-infohash', infoHash];
    program = new Program(process.env.E2E_TORRENT, [args[0], '-tracker', a, ...args.slice(1)]);
    await event(program, 'announced', ANNOUNCED_WITHIN);
  };
  const startPage = async () => {
    await (goSeeds ? tab.call('download', { url: b, infoHash }) : tab.call('seed', { url: b, size, seed }));
    await announced(tab, 'webtorrent');
  };
  try {
    await (goFirst ? startGo() : startPage());
    await apart(1);
    const began = Date.now();
    await (goFirst ? startPage() : startGo());
    const at = goSeeds ? (await receives(tab, tab, file)).at : await goReceives(program, tab, file);
    report(t, `${size} bytes with the right digest, since the second came`, at - began);
  } finally {
    await Promise.all([tab.close(), program?.close()]);
  }
}

async function goReceives(program, tab, file) {
  const done = await event(program, 'done', MEET_WITHIN, () => `webtorrent: ${tab.detail()}`);
  assert.equal(done.bytes, file.size);
  assert.equal(done.sha256, file.sha256);
  return done.at;
}

async function event(program, name, ms, detail = () => '') {
  try {
    return JSON.parse(await program.line(ms, `the Go client says ${name}`, (text) => JSON.parse(text).event === name));
  } catch (err) {
    throw new Error(`${err.message}; ${detail()}`);
  }
}
