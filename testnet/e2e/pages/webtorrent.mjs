// A webtorrent client, the library's own browser build.

import MemoryChunkStore from 'memory-chunk-store';
import WebTorrent from 'webtorrent/dist/webtorrent.min.js';
import { PIECE, content, nameOf } from '../content.mjs';

const now = () => performance.timeOrigin + performance.now();
const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, '0')).join('');

const client = new WebTorrent({
  tracker: { rtcConfig: { iceServers: [] } },
  dht: false,
  lsd: false,
  webSeeds: false,
});
const failed = new Promise((_, reject) => client.on('error', reject));
failed.catch(() => {});
const wires = [];

function watch(torrent) {
  torrent.on('wire', (wire) => wires.push({ type: wire.type, at: now() }));
}

// webtorrent announces a seed before its store has the bytes, and drops what a quick leecher requests until then: a store
// that is filled beforehand (an option of its own) keeps that race out of the tests.
async function filled(bytes) {
  const store = new MemoryChunkStore(PIECE, { length: bytes.length });
  const puts = [];
  for (let at = 0; at < bytes.length; at += PIECE) {
    puts.push(new Promise((resolve, reject) => {
      store.put(at / PIECE, bytes.slice(at, at + PIECE), (err) => (err ? reject(err) : resolve()));
    }));
  }
  await Promise.all(puts);
  return store;
}

globalThis.peer = {
  /** Seeds the file (size, seed) at `url`. Answers the time at which it began to. */
  async seed({ url, size, seed }) {
    const bytes = content(size, seed);
    const preloadedStore = await filled(bytes);
    const at = now();
    const file = new File([bytes], nameOf(size, seed));
    const torrent = client.seed(file, { name: file.name, pieceLength: PIECE, announce: [url], preloadedStore });
    watch(torrent);
    return at;
  },

  /** Starts to download `infoHash` by `url`, from a magnet link as a user would. Answers the time of the call. */
  download({ url, infoHash }) {
    const at = now();
    const torrent = client.add(`magnet:?xt=urn:btih:${infoHash}&tr=${encodeURIComponent(url)}`);
    watch(torrent);
    this.finished = Promise.race([failed, new Promise((resolve) => torrent.on('done', () => resolve({ torrent, at: now() })))]);
    this.finished.catch(() => {});
    return at;
  },

  /** Resolves when the download is complete, with its digest and the transports of its wires. */
  async downloaded() {
    const { torrent, at } = await this.finished;
    const bytes = await torrent.files[0].arrayBuffer();
    const sha256 = hex(await crypto.subtle.digest('SHA-256', bytes));
    return { sha256, bytes: bytes.byteLength, at, wires };
  },

  infoHashes: () => client.torrents.map((torrent) => torrent.infoHash),
};
