// A room: this peer's membership of an app, on one node at a time, and its connections to the others.

import { addressOf, printAddress } from './address.ts';
import type { CallOptions } from './asked.ts';
import { Broadcasts, type Sender } from './broadcasts.ts';
import { type Bytes, concat, equal, hex, printed } from './bytes.ts';
import { callEach, type Outcome, type Target } from './calls.ts';
import { Commands, type Handler } from './commands.ts';
import {
  appId, broadcastKey, type Identity, newIdentity, openEnvelope, sealEnvelope, type SealKey, sealKey, sealSecret, signPresence, verifyPresence,
} from './crypto.ts';
import { diagnose, type DiagnoseOptions, type Diagnosis } from './diagnose.ts';
import { PeerserverError } from './errors.ts';
import { Events } from './events.ts';
import { Home } from './home.ts';
import { Servers } from './ice.ts';
import { Links } from './links.ts';
import type { Member } from './member.ts';
import { onNetworkChange } from './network.ts';
import type { NodeConnection } from './node.ts';
import { Peer } from './peer.ts';
import { Roster } from './roster.ts';
import { type Envelope, Kind, type Of, type ToPeer } from './wire.ts';

const GOODBYE_WITHIN = 500;
const MAX_QUEUED = 4096; // of what a node says

export interface JoinOptions {
  /** URLs of nodes, ws:// or wss://, with `?token=` if private. Two are tried at a time; the first that lets this peer in is used. */
  readonly nodes: readonly string[];
  /** Only those who have it find the app, and can read its signals. */
  readonly secret?: string | Uint8Array;
  /** This peer's key; a fresh one by default. */
  readonly identity?: Identity;
  readonly name?: string;
  readonly services?: readonly string[];
  /** At most 1 KiB, shown to all members. */
  readonly metadata?: Uint8Array;
  /**
   * STUN and TURN servers instead of those that the node gives; [] for none. No third party's server is used unless it is named
   * here.
   */
  readonly iceServers?: RTCIceServer[];
  /** 'relay': over TURN servers and nodes only, so that no peer learns this one's address. */
  readonly iceTransportPolicy?: RTCIceTransportPolicy;
  /** How many connections this peer makes by itself; 50 by default. It takes as many more from others. */
  readonly maxPeers?: number;
  /** Never over nodes: without a way of its own a connection does not come to be. */
  readonly noRelay?: boolean;
  /** The WebRTC implementation, where there is no RTCPeerConnection. */
  readonly rtc?: typeof RTCPeerConnection;
  /** The WebSocket implementation, where there is none. */
  readonly webSocket?: typeof WebSocket;
  /** Whether the page keeps the nodes that it learns, in localStorage, for when none of `nodes` is reached; true by default. */
  readonly cache?: boolean;
  /** Leaves the room when it is aborted. */
  readonly signal?: AbortSignal;
}

type RoomEvents = {
  peer: [peer: Peer];
  leave: [peer: Peer, lost: boolean];
  message: [peer: Peer, data: Bytes];
  broadcast: [sender: Sender, data: Bytes];
  path: [peer: Peer];
  node: [url: string | undefined];
  left: [];
};

/** What a room is made of. */
interface Keys {
  readonly app: Bytes;
  readonly secret: Bytes;
  readonly broadcasts: Bytes;
  readonly identity: Identity;
  readonly seal: SealKey;
}

/** What makes a room one that is dialled, or that dials. */
export interface Purpose {
  /** It is named after this peer. */
  readonly listens?: boolean;
  /** The one peer that it is for, on the one node; ids in z-base-32. */
  readonly only?: { readonly node: string; readonly peer: string };
}

/**
 * Joins an app. Resolves when a node has let this peer in; the others then come as events.
 *
 * @example
 * const room = await join('my-app', { nodes: ['wss://node.example.org'], secret: 'a long one' })
 * room.on('peer', (peer) => peer.send('hello'))
 * room.on('message', (peer, data) => console.log(peer.id, new TextDecoder().decode(data)))
 */
export async function join(name: string, options: JoinOptions): Promise<Room> {
  return joinAs(name, options, {});
}

/** @internal */
export async function joinAs(name: string, options: JoinOptions, purpose: Purpose): Promise<Room> {
  options.signal?.throwIfAborted();
  const secret = typeof options.secret === 'string' ? new TextEncoder().encode(options.secret) : options.secret ?? new Uint8Array(0);
  const app = await appId(name, secret);
  const room = new Room({
    app, secret: await sealSecret(app, secret), broadcasts: await broadcastKey(app, name, secret),
    identity: options.identity ?? (await newIdentity()), seal: await sealKey(),
  }, options, purpose);
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
 * Events: `peer` when one is connected, `leave` when its connection has ended (`lost`: without a goodbye), `message` for what it
 * sent, `broadcast` for what somebody sent to all who is not connected, `path` when the way to a peer is another, `node` when
 * another node is used, undefined while there is none, `left` when this peer has left.
 */
export class Room extends Events<RoomEvents> implements AsyncDisposable {
  /** This peer's id, in z-base-32. */
  readonly id: string;
  readonly #keys: Keys;
  readonly #options: JoinOptions;
  readonly #purpose: Purpose;
  readonly #session = crypto.getRandomValues(new Uint8Array(8));
  readonly #member: Bytes;
  readonly #commands = new Commands(() => this.peers);
  readonly #roster: Roster;
  readonly #links: Links;
  readonly #broadcasts: Broadcasts;
  readonly #home: Home;
  readonly #servers: Servers;
  readonly #sealing = new WeakMap<Member, Promise<unknown>>(); // envelopes leave in the order of their sequences
  #node: NodeConnection | undefined; // joined, or being joined
  #taking: Promise<unknown> = Promise.resolve();
  #left = false;
  #offs: (() => void)[] = [];

  /**
   * Use join.
   *
   * @internal
   */
  constructor(keys: Keys, options: JoinOptions, purpose: Purpose) {
    super();
    this.#keys = keys;
    this.#options = options;
    this.#purpose = purpose;
    this.#member = concat(keys.identity.id, this.#session);
    this.id = printed(keys.identity.id);
    this.#roster = new Roster(this.#forMembers(), options.maxPeers);
    this.#links = new Links(this.#forLinks());
    this.#broadcasts = new Broadcasts(this.#forBroadcasts());
    this.#servers = new Servers(options, {
      ask: async () => (await this.#node?.ask({ askIce: {} }))?.iceServers,
      renewed: (age) => this.#roster.renewed(age),
    });
    this.#home = new Home({
      nodes: options.nodes, identity: keys.identity, webSocket: options.webSocket ?? WebSocket, signal: options.signal,
      cache: options.cache ?? true, only: purpose.only?.node, join: (node) => this.#join(node),
    });
    this.#home.on('node', (node) => {
      if (!node) this.#node = undefined;
      this.emit('node', node?.url);
    });
    this.#home.on('lost', () => this.#roster.doubt());
  }

  /** Tells this membership apart from others of the same id. */
  get session(): string {
    return hex(this.#session);
  }

  /** Those who are connected. */
  get peers(): Peer[] {
    return this.#roster.connected.map((member) => member.peer);
  }

  /** How many others the app has, as far as is known; this peer connects to `maxPeers` of them at most. */
  get members(): number {
    return this.#roster.members;
  }

  /** The node in use. */
  get node(): string | undefined {
    return this.#home.node?.url;
  }

  /**
   * Where `dial` reaches this peer, if it listens: by the URL of the node in use, and then by the others that its record names. They
   * change when the room goes to another node.
   */
  get addresses(): string[] {
    const node = this.#home.node;
    if (!node || !this.#purpose.listens) return [];
    const texts = [node.url, ...this.#home.urlsOf(node)].map((url) => printAddress(addressOf(url, printed(node.id), this.id)));
    return [...new Set(texts)];
  }

  /** @internal */
  get dials(): boolean {
    return this.#purpose.only !== undefined;
  }

  /**
   * Sends to all members. Those who are connected get it as `message`; in a room that is larger than that, the others get it over
   * nodes as `broadcast`, at most once, and a message then has at most 55 KiB and no order with what send sends. Resolves when
   * there is room for more; is rejected when the node did not take it.
   */
  async broadcast(data: Uint8Array | string): Promise<void> {
    await this.#broadcasts.send(data);
  }

  /**
   * Sends to all sessions of one id that are connected: a person's tabs and devices. `peer.send` sends to one. Rejected with
   * `unknown_peer` when none is connected.
   */
  async send(id: string, data: Uint8Array | string): Promise<void> {
    const all = this.peers.filter((peer) => peer.id === id);
    if (all.length === 0) throw new PeerserverError('unknown_peer', `${id.slice(0, 8)} is not connected`);
    await Promise.all(all.map((peer) => peer.send(data)));
  }

  /**
   * Has those who are connected run a command, all at once: '*' for all, { name } for those of a name, or some of them. One that
   * fails does not keep the others from answering.
   */
  call(target: Target, path: string, args?: unknown, options: CallOptions = {}): Promise<Map<Peer, Outcome>> {
    return callEach(this.#targets(target), (peer) => peer.call(path, args, options));
  }

  #targets(target: Target): Iterable<Peer> {
    if (target === '*') return this.peers;
    if (target instanceof Peer) return [target];
    if (Symbol.iterator in target) return target;
    return this.peers.filter((peer) => peer.name === target.name);
  }

  /**
   * Adds a command that the others may call, or those of an object as path.name. Answers what removes it.
   *
   * @example
   * room.handle('files.list', async ({ folder }) => ['a.txt', 'b.txt'])
   * room.handle('clock', { now: () => Date.now() }) // clock.now
   */
  handle(path: string, handlers: Handler | { readonly [name: string]: unknown }): () => void {
    return this.#commands.handle(path, handlers);
  }

  /**
   * Finds out what keeps this peer from others: the node, STUN and TURN servers, the NAT, UDP, IPv6. Takes 10 s at most. The result
   * is plain data, with a code and a sentence of what to do for each trouble, and without IP addresses unless they are asked for.
   *
   * @example
   * const { ok, troubles } = await room.diagnose()
   * if (!ok) show(troubles.map(({ text }) => text))
   */
  diagnose(options: DiagnoseOptions = {}): Promise<Diagnosis> {
    return diagnose({
      rtc: this.#rtc, configuration: this.#servers.configuration(false), node: this.#home.usual,
      greet: (signal) => this.#home.greet(signal),
      peers: this.peers.map(({ id, session, way }) => ({ id, session, ...way })),
    }, options);
  }

  get #rtc(): typeof RTCPeerConnection {
    return this.#options.rtc ?? globalThis.RTCPeerConnection;
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
    for (const off of this.#offs) off();
    this.#servers.close();
    this.emit('left');
    const goodbyes = Promise.all([...this.#roster.all].map((peer) => peer.goodbye()));
    await Promise.race([goodbyes, new Promise((resolve) => setTimeout(resolve, GOODBYE_WITHIN))]);
    this.#roster.close();
    const node = this.#home.node;
    if (node && !node.closed) await node.ask({ part: { app: this.#keys.app, session: this.#session } }).catch(() => {});
    this.#home.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.leave();
  }

  /** @internal */
  async enter(): Promise<void> {
    await this.#home.enter();
    this.#offs = onNetworkChange(() => {
      this.#home.hurry();
      this.#roster.hurry();
    }, () => {
      this.#home.doubt();
      this.#roster.doubt();
    });
  }

  async #join(node: NodeConnection): Promise<void> {
    this.#node = node;
    const joined = this.#ask(node);
    this.#taking = joined.catch(() => {}); // what it says comes after that, and in order
    let queued = 0;
    node.on('said', (said) => {
      if (queued >= MAX_QUEUED) return;
      queued++;
      this.#taking = this.#taking.then(() => this.#said(said, node)).catch(() => {}).finally(() => void queued--);
    });
    try {
      await joined;
    } catch (err) {
      this.#node = undefined;
      throw err;
    }
  }

  async #ask(node: NodeConnection): Promise<void> {
    const { app, identity, seal } = this.#keys;
    const { name, services, metadata } = this.#options;
    const presence = await signPresence(identity, app, {
      session: this.#session, seal: seal.seal, ...(name && { name }), ...(services && { services }), ...(metadata && { metadata }),
    });
    const { joined } = await node.ask({ join: { app, presence: presence.signed } });
    this.#servers.take(joined?.ice);
    this.#roster.joined(joined?.members ?? 0, joined?.resumed ?? false);
  }

  async #said(said: Of<typeof ToPeer>, node: NodeConnection): Promise<void> {
    const { arrived, departed, delivered, broadcast } = said;
    if (arrived?.presence) this.#roster.arrived(await verifyPresence(arrived.presence, this.#keys.app), arrived.before, arrived.node);
    if (departed) {
      if (equal(departed.member, this.#member)) await this.#ask(node); // it has let the presence expire
      else this.#roster.departed(departed.member, departed.lost);
    }
    if (delivered?.envelope) await this.#delivered(delivered.envelope);
    if (broadcast?.envelope) this.#broadcasts.take(broadcast.envelope);
  }

  async #delivered(envelope: Of<typeof Envelope>): Promise<void> {
    const { app, seal, secret } = this.#keys;
    const { header, plain } = await openEnvelope(envelope, app, this.#member, seal, secret);
    const peer = this.#roster.find(header.from);
    if (!peer) return;
    peer.window.take(header.sequence);
    if (!this.#left && this.#roster.takes(peer, header.kind)) peer.take(header, plain);
  }

  /** Seals a signal, or a Piece, and sends it: signals through a peer that both are connected to, if there is one. */
  async #send(to: Member, kind: number, sequence: bigint, plain: Uint8Array): Promise<void> {
    const { app, identity, secret } = this.#keys;
    const header = { app, from: this.#member, to: to.presence.member, sequence, kind };
    const before = this.#sealing.get(to);
    const sealed = sealEnvelope(identity, header, to.presence.seal, secret, plain);
    const turn = Promise.allSettled([before, sealed]);
    this.#sealing.set(to, turn);
    await turn;
    const envelope = await sealed;
    const data = kind === Kind.data;
    if (kind === Kind.bye && to.open) await to.sendControl({ passed: envelope }); // it would see the end before it hears why
    if (!data && kind !== Kind.bye && (await this.#links.forward(to.presence.member, envelope, !this.#node))) return;
    if (!this.#node) throw new PeerserverError('node_gone', 'there is no node');
    await this.#node.ask({ send: { app, session: this.#session, to: to.presence.member, envelope, data } });
  }

  // What its parts need of the room.

  #forMembers(): ConstructorParameters<typeof Roster>[0] {
    const options = this.#options;
    return {
      member: this.#member,
      rtc: this.#rtc,
      configuration: (few) => this.#servers.configuration(few),
      noServers: options.iceServers?.length === 0,
      commands: this.#commands,
      room: this,
      wants: (member) => this.#purpose.only === undefined || this.#purpose.only.peer === printed(member.subarray(0, 32)),
      relays: options.noRelay !== true,
      send: (to, kind, sequence, plain) => this.#send(to, kind, sequence, plain),
      answers: (member) => this.#links.answers(member),
      troubled: () => this.#home.doubt(),
      opened: (member) => {
        this.#links.opened(member);
        this.emit('peer', member.peer);
      },
      path: (member) => {
        this.#links.changed(member);
        this.emit('path', member.peer);
      },
      message: (member, data) => this.emit('message', member.peer, data),
      control: (member, said) => {
        if (said.spread) this.#broadcasts.spread(member, said.spread);
        else this.#links.control(member, said);
      },
      ended: (member) => {
        this.#links.ended(member);
        this.emit('leave', member.peer, member.lost && !this.#left);
      },
      linked: (member) => this.#links.has(member.presence.member),
      idle: () => this.#roster.fill(),
    };
  }

  #forLinks(): ConstructorParameters<typeof Links>[0] {
    const roster = this.#roster;
    return {
      app: this.#keys.app,
      member: this.#member,
      get connected() { return roster.connected; },
      find: (id) => roster.find(id),
      linked: (presence) => roster.linked(presence),
      passed: (envelope) => this.#delivered(envelope),
    };
  }

  #forBroadcasts(): ConstructorParameters<typeof Broadcasts>[0] {
    const roster = this.#roster;
    const home = () => this.#home.node;
    const { app, identity, broadcasts } = this.#keys;
    return {
      app, identity,
      member: this.#member,
      broadcastKey: broadcasts,
      get connected() { return roster.connected; },
      get homed() { return home() !== undefined; },
      get others() { return roster.others; },
      find: (id) => roster.find(id),
      publish: async (envelope) => void (await home()?.ask({ broadcast: { app, session: this.#session, envelope } })),
      message: (member, data) => this.emit('message', member.peer, data),
      broadcast: (sender, data) => this.emit('broadcast', sender, data),
    };
  }
}
