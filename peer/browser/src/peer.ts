// One other member of a room: what is known of it, and the connection to it.

import type { CallOptions } from './asked.ts';
import type { Attempt } from './attempt.ts';
import { type Bytes, compare, hex, printed } from './bytes.ts';
import { Calls } from './calls.ts';
import type { Init } from './codec.ts';
import type { Commands } from './commands.ts';
import { Connection, type ConnectionHost } from './connection.ts';
import { type Header, type Presence, Window } from './crypto.ts';
import { PeerserverError } from './errors.ts';
import { Events } from './events.ts';
import { type Negotiating, Negotiation } from './negotiation.ts';
import { type Control, Kind, type Of, Piece } from './wire.ts';

const RELAYED_AFTER = 4000; // without a connection
const GONE_WITHIN = 1000; // after a goodbye
const LOST_WITHIN = 30_000; // over nodes, when its own is not reached
const MAX_MESSAGE = (64 << 10) - 1; // what pion and every browser take in one message
const MAX_RUNS = 8; // that have ended, and are remembered

/** How a peer is reached: directly, over a TURN server, or over nodes. */
export type Path = 'direct' | 'turn' | 'nodes';

/** Somebody that a peer says it is connected to. */
export interface Link {
  readonly id: string;
  readonly session: string;
  readonly name: string;
  readonly path: Path;
}

/** What a peer needs of its room. */
export interface PeerRoom {
  readonly member: Uint8Array;
  readonly rtc: typeof RTCPeerConnection;
  readonly configuration: RTCConfiguration;
  readonly commands: Commands;
  /** Whether connections may go over nodes. */
  readonly relays: boolean;
  send(to: Peer, kind: number, sequence: bigint, plain: Uint8Array): Promise<void>;
  opened(peer: Peer): void;
  path(peer: Peer): void;
  message(peer: Peer, data: Bytes): void;
  control(peer: Peer, said: Of<typeof Control>): void;
  ended(peer: Peer): void;
  /** Whether somebody who is connected says that it is connected to this one. */
  linked(peer: Peer): boolean;
  /** Nothing is tried any more. */
  idle(peer: Peer): void;
}

/**
 * Another member of the room: one session of one key.
 *
 * Events: `channel` for a data channel that it opened, `closed` when the connection has ended.
 */
export class Peer extends Events<{ channel: [channel: RTCDataChannel]; closed: [] }> implements Negotiating, ConnectionHost {
  /** Its id, in z-base-32: the same for all sessions of one key. */
  readonly id: string;
  /** Tells apart the sessions of one key: tabs, devices, joins. */
  readonly session: string;

  // Used by the room.
  presence: Presence;
  readonly window = new Window();
  /** A node says that it is there. */
  shown = false;
  /** It said goodbye, or a node said so for it. */
  departed = false;
  /** It did not connect in many tries. */
  hopeless = false;
  /** When the present node has shown it: how often the room had joined by then. */
  epoch = 0;
  nodeId = '';
  /** Whom it says it is connected to, by member. */
  readonly linked = new Map<string, { presence: Presence; path: Path }>();

  readonly lower: boolean;
  readonly #room: PeerRoom;
  readonly #negotiation: Negotiation;
  #connection: Connection | undefined;
  #calls: Calls | undefined; // of the connection
  #sequence = 0n;
  #lost = false;
  #turn = false; // over a TURN server
  #told: Path | undefined;
  #wish: ReturnType<typeof setTimeout> | undefined; // to be relayed
  #end: ReturnType<typeof setTimeout> | undefined;
  readonly #ended: bigint[] = []; // runs

  constructor(room: PeerRoom, presence: Presence) {
    super();
    this.#room = room;
    this.presence = presence;
    this.id = printed(presence.member.subarray(0, 32));
    this.session = hex(presence.member.subarray(32));
    this.lower = compare(room.member, presence.member) < 0;
    this.#negotiation = new Negotiation(this);
  }

  get name(): string {
    return this.presence.name;
  }

  get services(): readonly string[] {
    return this.presence.services;
  }

  get metadata(): Uint8Array {
    return this.presence.metadata;
  }

  /** Id of the node that it is on, in z-base-32; undefined when no node has said. */
  get node(): string | undefined {
    return this.nodeId || undefined;
  }

  /** Its node is not reached; and when it has left: it went without a goodbye. */
  get lost(): boolean {
    return this.#lost;
  }

  /** How it is reached; undefined while it is not. */
  get path(): Path | undefined {
    if (!this.#connection?.open) return undefined;
    return this.#connection.relayed ? 'nodes' : this.#turn ? 'turn' : 'direct';
  }

  /** The browser's own connection, for media and statistics; undefined while there is none, as when it goes over nodes. */
  get connection(): RTCPeerConnection | undefined {
    return this.open ? this.#connection?.attempt?.pc : undefined;
  }

  get open(): boolean {
    return this.#connection?.open ?? false;
  }

  /** Whom it says it is connected to. */
  get links(): Link[] {
    return [...this.linked.values()].map(({ presence, path }) => ({
      id: printed(presence.member.subarray(0, 32)), session: hex(presence.member.subarray(32)), name: presence.name, path,
    }));
  }

  /** Sends bytes or text, in order. Resolves when there is room for more, so that waiting for it bounds memory. */
  async send(data: Uint8Array | string): Promise<void> {
    const connection = this.#present();
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
    if (bytes.length > MAX_MESSAGE) throw new PeerserverError('too_large', `a message has at most ${MAX_MESSAGE} bytes`);
    await connection.send(bytes);
  }

  /** Opens a further channel to it, which needs a connection that does not go over nodes. */
  channel(label: string, options?: RTCDataChannelInit): RTCDataChannel {
    const { attempt } = this.#present();
    if (!attempt) throw new PeerserverError('refused', `${this.id.slice(0, 8)} is reached over nodes only, and those carry no channels`);
    return attempt.pc.createDataChannel(label, options);
  }

  /** Has it run a command, and answers what that returns. A RemoteError is what it answers instead. */
  async call(path: string, args?: unknown, options?: CallOptions): Promise<unknown> {
    this.#present();
    return this.#calls?.call(path, args, options);
  }

  /** The same for a command that gives values one after the other. */
  stream(path: string, args?: unknown, options?: CallOptions): AsyncIterableIterator<unknown> {
    this.#present();
    return (this.#calls as Calls).stream(path, args, options);
  }

  #present(): Connection {
    if (!this.#connection?.open) throw new PeerserverError('unknown_peer', `${this.id.slice(0, 8)} is not connected`);
    return this.#connection;
  }

  // Used by the room.

  /** There is a connection, or one is being made. */
  get busy(): boolean {
    return this.#negotiation.busy || this.#connection !== undefined;
  }

  /** Whether signals and broadcasts can go through it to others. */
  get passes(): boolean {
    return this.#connection?.open === true && !this.#connection.relayed;
  }

  /** Makes an offer now, or waits for that of the other side. */
  meet(offers: boolean): void {
    if (this.open) return;
    this.#negotiation.meet(offers);
    this.#wishes();
  }

  /** The network has changed: what would be tried later is tried now. */
  hurry(): void {
    this.#negotiation.hurry();
  }

  /** A node says that it is there. */
  arrived(presence: Presence, node: Uint8Array, epoch: number): void {
    if (presence.issued >= this.presence.issued) this.presence = presence;
    if (node.length === 32) this.nodeId = printed(node);
    this.epoch = epoch;
    this.shown = true;
    this.departed = this.#lost = false;
    if (this.#connection) clearTimeout(this.#end);
  }

  /** A node says that it is there no more. */
  gone(lost: boolean): void {
    this.shown = false;
    this.#lost = lost;
    this.departed = !lost;
    if (this.path === 'nodes') this.#endIn(lost ? LOST_WITHIN : GONE_WITHIN);
    else if (!lost && !this.open) this.#stop();
  }

  /** Takes what was in an envelope. */
  take(header: Header, plain: Uint8Array): void {
    if (header.kind === Kind.bye) this.#onBye();
    else if (header.kind === Kind.data) this.#onPiece(plain);
    else this.#negotiation.take(header.kind, header.sequence, plain);
  }

  sendControl(said: Init<typeof Control.fields>): Promise<void> {
    return this.#connection?.open ? this.#connection.sendControl(said) : Promise.reject(new PeerserverError('unknown_peer', 'not connected'));
  }

  /** Tells the other side that this one leaves. */
  async goodbye(): Promise<void> {
    if (!this.busy) return;
    this.#sequence++;
    await this.#room.send(this, Kind.bye, this.#sequence, new Uint8Array(0)).catch(() => {});
  }

  /** Ends the connection. */
  close(): void {
    this.departed = true;
    this.#stop();
  }

  #onBye(): void {
    this.shown = false;
    this.departed = true;
    if (this.open) this.#endIn(GONE_WITHIN);
    else this.#stop();
  }

  #endIn(ms: number): void {
    clearTimeout(this.#end);
    this.#end = setTimeout(() => this.#stop(), ms);
  }

  #stop(): void {
    for (const timer of [this.#end, this.#wish]) clearTimeout(timer);
    this.#wish = undefined;
    this.#finish();
    this.#negotiation.stop();
  }

  /** Ends the connection, whichever way it goes. */
  #finish(): void {
    const connection = this.#connection;
    if (!connection) return;
    const wasOpen = connection.open;
    this.#connection = undefined;
    if (connection.theirRun !== 0n) this.#ended.push(connection.theirRun);
    if (this.#ended.length > MAX_RUNS) this.#ended.shift();
    connection.end();
    this.#calls?.end();
    this.#calls = undefined;
    clearTimeout(this.#end);
    if (!wasOpen) return;
    this.#lost = !this.departed;
    this.#told = undefined;
    this.emit('closed');
    this.#room.ended(this);
  }

  // Over nodes.

  #wishes(): void {
    if (this.#room.relays && !this.#connection) this.#wish ??= setTimeout(() => this.#relay(), RELAYED_AFTER);
  }

  #relay(): void {
    clearTimeout(this.#wish);
    this.#wish = undefined;
    if (!this.#room.relays || this.#connection || !this.shown) return;
    this.#connection = new Connection(this);
    this.#connection.relay();
  }

  #onPiece(plain: Uint8Array): void {
    if (!this.#room.relays) return;
    const piece = Piece.decode(plain);
    if (piece.sequence === 1n && piece.run !== this.#connection?.theirRun && !this.#ended.includes(piece.run)) this.#onRun();
    const connection = this.#connection;
    if (connection && (piece.sequence <= 1n || piece.run === connection.theirRun)) connection.piece(piece);
  }

  /** The other side wishes to be relayed; if there is a connection already, that is none for it any more. */
  #onRun(): void {
    const connection = this.#connection;
    if (connection && (connection.theirRun !== 0n || connection.started)) {
      const { attempt } = connection;
      this.#finish();
      if (attempt) this.#negotiation.closed(attempt);
    }
    if (this.#connection) return;
    this.#connection = new Connection(this);
    this.#connection.relay();
  }

  async post(piece: Init<typeof Piece.fields>): Promise<void> {
    this.#sequence++;
    await this.#room.send(this, Kind.data, this.#sequence, Piece.encode(piece));
  }

  // What the negotiation asks and tells.

  get rtc(): typeof RTCPeerConnection {
    return this.#room.rtc;
  }

  get configuration(): RTCConfiguration {
    return this.#room.configuration;
  }

  wanted(): boolean {
    return !this.departed && (this.shown || this.#room.linked(this));
  }

  relayed(): boolean {
    return this.path === 'nodes';
  }

  signal(kind: number, plain: Uint8Array): bigint {
    this.#sequence++;
    const sequence = this.#sequence;
    void this.#room.send(this, kind, sequence, plain).catch(() => {}); // what is due will tell
    return sequence;
  }

  begun(): void {
    this.#wishes();
  }

  noWay(): void {
    this.#relay();
  }

  idle(): void {
    if (!this.#connection) clearTimeout(this.#wish);
    if (!this.#connection) this.#wish = undefined;
    this.hopeless = !this.#connection;
    this.#room.idle(this);
  }

  incoming(channel: RTCDataChannel): void {
    this.emit('channel', channel);
  }

  ended(attempt: Attempt): void {
    if (this.#connection?.attempt === attempt) this.#finish();
  }

  // What attempts and connections tell.

  opened(way: Attempt | Connection): void {
    if (way instanceof Connection) {
      this.#opened();
      return;
    }
    this.#connection ??= new Connection(this);
    this.#connection.direct(way);
    way.onPath(() => void this.#look(way));
    void this.#look(way);
  }

  #opened(): void {
    clearTimeout(this.#wish);
    this.#wish = undefined;
    this.#turn = false;
    this.#told = this.path;
    this.#calls = new Calls(this, this.#room.commands, (said) => this.sendControl(said));
    this.#room.opened(this);
    if (this.path === 'nodes') this.#negotiation.slowly();
  }

  upgraded(): void {
    clearTimeout(this.#end);
  }

  /** Finds out how the connection goes, and tells when that has changed. */
  async #look(attempt: Attempt): Promise<void> {
    const turn = await attempt.relayed().catch(() => false);
    if (this.#connection?.attempt !== attempt || !this.open) return;
    this.#turn = turn;
    if (this.path === this.#told) return;
    this.#told = this.path;
    this.#room.path(this);
  }

  message(data: Bytes): void {
    this.#room.message(this, data);
  }

  control(said: Of<typeof Control>): void {
    this.#calls?.take(said);
    this.#room.control(this, said);
  }

  broken(connection: Connection): void {
    if (this.#connection !== connection) return;
    const { attempt } = connection;
    if (attempt) {
      this.#negotiation.closed(attempt);
    } else {
      this.#finish();
      this.#negotiation.hasten();
    }
  }

  replaced(connection: Connection, attempt: Attempt, rest: Of<typeof Control>): void {
    if (this.#connection !== connection) return;
    this.#finish();
    this.#connection = new Connection(this);
    this.#connection.direct(attempt, rest, connection.held);
  }
}
