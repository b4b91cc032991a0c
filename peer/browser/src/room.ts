// A room: this peer's membership of an app, on one node at a time, and its connections to the others.

import { type Bytes, concat, equal, printed } from './bytes.ts';
import {
  appId, type Identity, newIdentity, openEnvelope, type Presence, sealEnvelope, type SealKey, sealKey, sealSecret, signPresence, verifyPresence,
} from './crypto.ts';
import { Events } from './events.ts';
import { PeerserverError } from './errors.ts';
import { connect, type NodeConnection } from './node.ts';
import { Peer, type Signals } from './peer.ts';
import { type Of, RecordBody, type SignedRecord, type ToPeer } from './wire.ts';

const MAX_NODES = 64;
const MAX_KNOWN = 1024;
const RETRY_MOST = 30_000;

export interface JoinOptions {
  /** URLs of nodes, ws:// or wss://. Two are tried at a time, and the first that lets this peer in is used. */
  readonly nodes: readonly string[];
  /** Only those who have it find the app, and can read its signals. */
  readonly secret?: string | Uint8Array;
  /** This peer's key; a fresh one by default. */
  readonly identity?: Identity;
  readonly name?: string;
  readonly services?: readonly string[];
  /** At most 1 KiB, shown to all members. */
  readonly metadata?: Uint8Array;
  /** None by default: no third party's server is used unless it is named here. */
  readonly iceServers?: RTCIceServer[];
  /** How many connections this peer makes by itself; 50 by default. */
  readonly maxPeers?: number;
  /** The WebRTC implementation, where there is no RTCPeerConnection. */
  readonly rtc?: typeof RTCPeerConnection;
  /** Leaves the room when it is aborted. */
  readonly signal?: AbortSignal;
}

type RoomEvents = {
  peer: [peer: Peer];
  leave: [peer: Peer];
  message: [peer: Peer, data: Bytes];
  node: [url: string | undefined];
  left: [];
};

/** Joins an app. Resolves when a node has let this peer in; the others then come as events. */
export async function join(app: string, options: JoinOptions): Promise<Room> {
  const secret = typeof options.secret === 'string' ? new TextEncoder().encode(options.secret) : options.secret ?? new Uint8Array(0);
  const id = await appId(app, secret);
  const identity = options.identity ?? (await newIdentity());
  const room = new Room(id, await sealSecret(id, secret), identity, await sealKey(), options);
  try {
    await room.enter();
  } catch (err) {
    await room.leave();
    throw err;
  }
  options.signal?.addEventListener('abort', () => void room.leave(), { once: true });
  return room;
}

/**
 * Events: `peer` when one is connected, `leave` when its connection has ended, `message` for what it sent,
 * `node` when another node is used, undefined while there is none, `left` when this peer has left.
 */
export class Room extends Events<RoomEvents> implements AsyncDisposable {
  /** This peer's id, in z-base-32. */
  readonly id: string;
  readonly #app: Bytes;
  readonly #secret: Bytes;
  readonly #identity: Identity;
  readonly #key: SealKey;
  readonly #options: JoinOptions;
  readonly #session = crypto.getRandomValues(new Uint8Array(8));
  readonly #member: Bytes;
  readonly #known = new Map<string, Peer>(); // by member
  readonly #nodes = new Set<string>();
  #node: NodeConnection | undefined;
  #left = false;
  #members = 0;

  /** Use join. */
  constructor(app: Bytes, secret: Bytes, identity: Identity, key: SealKey, options: JoinOptions) {
    super();
    this.#app = app;
    this.#secret = secret;
    this.#identity = identity;
    this.#key = key;
    this.#options = options;
    this.#member = concat(identity.id, this.#session);
    this.id = printed(identity.id);
    for (const url of options.nodes) this.#nodes.add(url.replace(/\/+$/, '').replace(/^http/, 'ws'));
  }

  /** Those who are connected. */
  get peers(): Peer[] {
    return [...this.#known.values()].filter((peer) => peer.open);
  }

  /** How many members the app had when this peer joined; it connects to `maxPeers` of them at most. */
  get members(): number {
    return this.#members;
  }

  /** The node in use. */
  get node(): string | undefined {
    return this.#node?.url;
  }

  /** Sends to all who are connected. */
  async broadcast(data: Uint8Array | string): Promise<void> {
    await Promise.allSettled(this.peers.map((peer) => peer.send(data)));
  }

  /** Those who are connected now, and then whoever comes, until this peer leaves. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Peer, void, void> {
    const waiting = this.peers;
    let wake = () => {};
    const offs = [
      this.on('peer', (peer) => {
        waiting.push(peer);
        wake();
      }),
      this.on('left', () => wake()),
    ];
    try {
      for (;;) {
        for (let peer = waiting.shift(); peer; peer = waiting.shift()) yield peer;
        if (this.#left) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      for (const off of offs) off();
    }
  }

  /** Ends all connections and the membership. May be called again. */
  async leave(): Promise<void> {
    if (this.#left) return;
    this.#left = true;
    this.emit('left');
    for (const peer of this.#known.values()) peer.close(true);
    const node = this.#node;
    if (node && !node.closed) {
      await new Promise((resolve) => setTimeout(resolve)); // the goodbyes are sealed first
      await node.ask({ part: { app: this.#app, session: this.#session } }).catch(() => {});
      node.close();
    }
    this.#known.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.leave();
  }

  /** Used by join: the first that lets this peer in, of two tried at a time. */
  async enter(): Promise<void> {
    const urls = [...this.#nodes];
    if (urls.length === 0) throw new PeerserverError('malformed', 'join: nodes has to name a node, such as wss://node.example.org');
    let failure: unknown;
    const lanes = [0, 1].map(async (lane) => {
      for (let i = lane; i < urls.length; i += 2) {
        if (this.#node || this.#left) return;
        try {
          await this.#use(urls[i] ?? '');
        } catch (err) {
          failure = err;
        }
      }
    });
    await Promise.all(lanes);
    if (!this.#node) throw failure ?? new PeerserverError('node_gone', 'join: no node was reached');
  }

  async #use(url: string): Promise<void> {
    const node = await connect(url, this.#identity, this.#options.signal);
    if (this.#node || this.#left) {
      node.close();
      return;
    }
    this.#node = node;
    node.on('said', (said) => void this.#said(said, node).catch(() => {}));
    node.on('closed', () => this.#lost(node));
    try {
      for (const record of node.others) this.#learn(record);
      await this.#join(node);
    } catch (err) {
      if (this.#node === node) this.#node = undefined;
      node.close();
      throw err;
    }
    this.emit('node', url);
  }

  /** Becomes a member, or renews that. */
  async #join(node: NodeConnection): Promise<void> {
    const { name, services, metadata } = this.#options;
    const presence = await signPresence(this.#identity, this.#app, {
      session: this.#session, seal: this.#key.seal, ...(name && { name }), ...(services && { services }), ...(metadata && { metadata }),
    });
    const said = await node.ask({ join: { app: this.#app, presence: presence.signed } });
    this.#members = said.joined?.members ?? 0;
  }

  /** Remembers where else to go. A record is checked when the node is dialled: its key has to sign there. */
  #learn(record: Of<typeof SignedRecord>): void {
    if (this.#nodes.size >= MAX_NODES) return;
    const start = record.value.indexOf(0x3a) + 1; // "length:"
    for (const url of RecordBody.decode(record.value.subarray(start)).urls) this.#nodes.add(url);
  }

  #lost(node: NodeConnection): void {
    if (this.#node !== node) return;
    this.#node = undefined;
    if (this.#left) return;
    this.emit('node', undefined);
    void this.#return(node.url);
  }

  /** Goes to another node, or back to the same. Connections live on meanwhile. */
  async #return(lost: string): Promise<void> {
    for (let wait = 50; !this.#left && !this.#node; wait = Math.min(2 * wait, RETRY_MOST)) {
      const others = [...this.#nodes].filter((url) => url !== lost).sort(() => Math.random() - 0.5);
      for (const url of [...others, lost]) {
        if (this.#left || this.#node) return;
        await this.#use(url).catch(() => {});
      }
      if (!this.#node) await this.#pause(wait * (0.5 + Math.random()));
    }
  }

  /** Waits, but not longer than this peer stays. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        off();
        resolve();
      };
      const timer = setTimeout(done, ms);
      const off = this.on('left', done);
    });
  }

  async #said(said: Of<typeof ToPeer>, node: NodeConnection): Promise<void> {
    if (said.arrived?.presence) this.#arrived(await verifyPresence(said.arrived.presence, this.#app), said.arrived.before);
    if (said.departed && equal(said.departed.member, this.#member)) {
      await this.#join(node); // the node has let the presence expire
    } else if (said.departed) {
      const peer = this.#known.get(name(said.departed.member));
      if (peer) peer.shown = false;
    }
    if (said.delivered?.envelope) {
      const { header, plain } = await openEnvelope(said.delivered.envelope, this.#app, this.#member, this.#key, this.#secret);
      const peer = this.#known.get(name(header.from));
      if (!peer) return;
      peer.window.take(header.sequence);
      peer.take(header, plain);
    }
  }

  #arrived(presence: Presence, before: boolean): void {
    if (equal(presence.member, this.#member)) return;
    const key = name(presence.member);
    let peer = this.#known.get(key);
    if (!peer) {
      if (!this.#room()) return;
      peer = new Peer(this.#signals, presence);
      this.#known.set(key, peer);
    }
    peer.presence = presence;
    peer.shown = true;
    peer.meet(!before);
  }

  /**
   * Whether there is room for one more. Who has departed is remembered for as long as there is: its sequences go on when it
   * comes back.
   */
  #room(): boolean {
    const all = [...this.#known];
    const gone = all.filter(([, peer]) => !peer.shown && !peer.open);
    if (all.length - gone.length >= (this.#options.maxPeers ?? 50)) return false;
    const [oldest] = gone;
    if (all.length >= MAX_KNOWN && oldest) this.#known.delete(oldest[0]);
    return this.#known.size < MAX_KNOWN;
  }

  readonly #signals: Signals = ((room: Room): Signals => ({
    get member() { return room.#member; },
    get rtc() { return room.#options.rtc ?? RTCPeerConnection; },
    get configuration() { return { iceServers: room.#options.iceServers ?? [] }; },
    send: (to, kind, sequence, plain) => room.#send(to, kind, sequence, plain),
    opened: (peer) => room.emit('peer', peer),
    message: (peer, data) => room.emit('message', peer, data),
    ended: (peer, opened) => {
      if (opened) room.emit('leave', peer);
    },
  }))(this);

  async #send(to: Peer, kind: number, sequence: bigint, plain: Uint8Array): Promise<void> {
    const header = { app: this.#app, from: this.#member, to: to.presence.member, sequence, kind };
    const envelope = await sealEnvelope(this.#identity, header, to.presence.seal, this.#secret, plain);
    const node = this.#node;
    if (!node) throw new PeerserverError('node_gone', 'there is no node');
    await node.ask({ send: { app: this.#app, session: this.#session, to: to.presence.member, envelope } });
  }
}

function name(member: Uint8Array): string {
  return String.fromCharCode(...member);
}
