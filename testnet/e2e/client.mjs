// bittorrent-tracker's client, as published, with what a test asks of it.

import { randomBytes } from 'node:crypto';
import { EventEmitter, on, once } from 'node:events';
import { register } from 'node:module';
import { apart, within } from './wait.mjs';

// The client takes its WebRTC from webrtc-polyfill, which is libdatachannel in Node. On a busy machine that loses connections
// whose answer comes after the first packets ("Got a remote candidate without ICE transport"), and it never says that gathering
// has ended, for which simple-peer waits 5 s. The same client over the browsers' own library has neither fault.
register('./webrtc-hook.mjs', import.meta.url);
export const { default: BittorrentTracker } = await import('bittorrent-tracker');

export const CONNECT_WITHIN = 15_000;

const REPLY_WITHIN = 15_000;
const COUNTS_WITHIN = 15_000;

/** A 20-byte id that nobody else has, in hex. */
export function newId() {
  return randomBytes(20).toString('hex');
}

/** One swarm's client: BittorrentTracker's Client with its events collected. */
export class Client extends EventEmitter {
  warnings = [];
  updates = [];
  /** What became of each connection, in short. */
  peers = [];
  /** Messages received over data channels, each with the id of its sender. */
  messages = [];

  /** `announce` replaces parts of every announce, as the library's getAnnounceOpts does. */
  constructor({ url, infoHash, peerId = newId(), announce }) {
    super();
    this.peerId = peerId;
    this.infoHash = infoHash;
    this.client = new BittorrentTracker({
      peerId,
      infoHash,
      announce: [url],
      port: 6881,
      rtcConfig: { iceServers: [] },
      getAnnounceOpts: announce ? () => announce : undefined,
    });
    this.client.on('error', (err) => this.warnings.push(err.message));
    this.client.on('warning', (err) => {
      this.warnings.push(err.message);
      this.emit('warned', err.message);
    });
    this.client.on('update', (reply) => this.updates.push(reply));
    this.client.on('peer', (peer) => this.#greet(peer));
  }

  /** The tracker's socket, which all clients of one URL share. */
  get socket() {
    return this.client._trackers[0].socket;
  }

  /** Calls one of the client's announces (start, stop, complete, update) and resolves with the tracker's reply to it. */
  async announce(verb, options) {
    const reply = once(this.client, 'update');
    this.client[verb](options);
    const [update] = await within(REPLY_WITHIN, `${verb} is answered`, reply, () => this.detail());
    return update;
  }

  /** Scrapes `infoHashes` (this client's own by default); resolves with as many results, by info hash. */
  async scrape(infoHashes = [this.infoHash]) {
    const results = {};
    const abort = new AbortController();
    const events = on(this.client, 'scrape', { signal: abort.signal });
    this.client.scrape({ infoHash: infoHashes });
    const collected = (async () => {
      for await (const [result] of events) {
        // Clients that share a socket are all told what one of them asked.
        if (infoHashes.includes(result.infoHash)) results[result.infoHash] = { complete: result.complete, incomplete: result.incomplete };
        if (infoHashes.every((hash) => results[hash])) return results;
      }
    })();
    collected.catch(() => {});
    try {
      return await within(REPLY_WITHIN, 'scrape is answered', collected, () => this.detail());
    } finally {
      abort.abort();
    }
  }

  /** Scrapes until the swarm has these counts: on two nodes they agree only when the nodes have told each other. */
  async sees(complete, incomplete) {
    const until = Date.now() + COUNTS_WITHIN;
    for (;;) {
      const got = (await this.scrape())[this.infoHash];
      if (got.complete === complete && got.incomplete === incomplete) return;
      if (Date.now() > until) {
        throw new Error(`counts are ${got.complete} complete and ${got.incomplete} incomplete, want ${complete} and ${incomplete}; ${this.detail()}`);
      }
      await apart(0.1);
    }
  }

  /** Resolves when the client `other` has said something over a data channel, with what it said. */
  async hears(other) {
    const said = async () => {
      for (;;) {
        const found = this.messages.find((message) => message.from === other.peerId);
        if (found) return found.text;
        await once(this, 'message');
      }
    };
    return within(CONNECT_WITHIN, 'a message comes over a data channel', said(), () => `it: ${this.detail()}; the other: ${other.detail()}`);
  }

  async destroy() {
    if (this.client.destroyed) return;
    await within(REPLY_WITHIN, 'destroy calls back', new Promise((resolve) => this.client.destroy(resolve)));
  }

  detail() {
    return `${this.infoHash}: ${this.updates.length} replies, connections: ${this.peers.join(', ') || 'none'}, ${this.messages.length} messages, ` +
      `warnings: ${this.warnings.join(' | ') || 'none'}`;
  }

  #greet(peer) {
    const from = peer.id;
    const at = this.peers.push('begun') - 1;
    const note = (what) => {
      this.peers[at] += ` ${what}`;
    };
    peer.on('connect', () => note('open'));
    peer.on('close', () => note('closed'));
    peer.on('iceStateChange', (ice) => note(ice));
    peer.on('error', (err) => this.warnings.push(`peer: ${err.message}`));
    peer.on('data', (data) => {
      this.messages.push({ from, text: Buffer.from(data).toString() });
      this.emit('message');
    });
    peer.on('connect', () => peer.send(`hello ${from} from ${this.peerId}`));
  }
}

/** Runs `play` with a way to make clients, all of which are destroyed afterwards. */
export async function withClients(play) {
  const clients = [];
  try {
    return await play((options) => {
      const client = new Client(options);
      clients.push(client);
      return client;
    });
  } finally {
    await Promise.allSettled(clients.map((client) => client.destroy()));
  }
}
