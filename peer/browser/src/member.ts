// One other member of a room: what is known of it, the connection to it, and what is done to have one. A Peer is what the app
// sees of it.

import type { Attempt } from './attempt.ts';
import { type Bytes, compare, printed } from './bytes.ts';
import { Calls } from './calls.ts';
import type { Init } from './codec.ts';
import type { Commands } from './commands.ts';
import { Connection, type ConnectionHost } from './connection.ts';
import { type Header, type Presence, Window } from './crypto.ts';
import { PeerserverError } from './errors.ts';
import { type Negotiating, Negotiation } from './negotiation.ts';
import { Peer } from './peer.ts';
import type { Room } from './room.ts';
import { type Leg, legNow, type Path, type Reasons, type Way } from './way.ts';
import { type Control, Kind, type Of, Piece } from './wire.ts';

const RELAYED_AFTER = 4000; // without a connection
const GONE_WITHIN = 1000; // after a goodbye
const LOST_WITHIN = 30_000; // over nodes, when its own is not reached
const UNRELAYED_FOR = 60_000; // after nothing came back
const SERVED = { each: 1000, burst: 10 }; // connections that the other side may ask for: ms on average, and how many at once
const MAX_RUNS = 8; // that have ended, and are remembered

/** What a member needs of its room. */
export interface MemberRoom {
  readonly member: Uint8Array;
  readonly rtc: typeof RTCPeerConnection;
  /** The STUN and TURN servers: few, or all that there are. */
  configuration(few: boolean): RTCConfiguration;
  readonly commands: Commands;
  /** Whether connections may go over nodes. */
  readonly relays: boolean;
  readonly room: Room;
  /** Whether the room has to do with a member. */
  wants(member: Uint8Array): boolean;
  send(to: Member, kind: number, sequence: bigint, plain: Uint8Array): Promise<void>;
  opened(member: Member): void;
  /** The app wants no STUN and no TURN server. */
  readonly noServers: boolean;
  /** Whether one who is connected answers at once. */
  answers(member: Member): Promise<boolean>;
  path(member: Member): void;
  message(member: Member, data: Bytes): void;
  control(member: Member, said: Of<typeof Control>): void;
  ended(member: Member): void;
  /** Whether somebody who is connected says that it is connected to this one. */
  linked(member: Member): boolean;
  /** Somebody who is connected does not answer any more: it may be the network. */
  troubled(): void;
  /** Nothing is tried any more. */
  idle(member: Member): void;
}

export class Member implements Negotiating, ConnectionHost {
  readonly peer: Peer;
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
  readonly #room: MemberRoom;
  readonly #negotiation: Negotiation;
  #connection: Connection | undefined;
  /** Of the connection. */
  calls: Calls | undefined;
  #sequence = 0n;
  #lost = false;
  #leg: Leg = { path: 'direct' }; // of the attempt
  #reasons: Reasons | undefined; // why the last attempt has found no way
  #told = '';
  #wish: ReturnType<typeof setTimeout> | undefined; // to be relayed
  #end: ReturnType<typeof setTimeout> | undefined;
  #unrelayedUntil = 0;
  #served = 0; // when the connections that it asked for would all be forgotten
  readonly #ended: bigint[] = []; // runs

  constructor(room: MemberRoom, presence: Presence) {
    this.#room = room;
    this.presence = presence;
    this.peer = new Peer(this, presence.member);
    this.lower = compare(room.member, presence.member) < 0;
    this.#negotiation = new Negotiation(this);
  }

  get room(): Room {
    return this.#room.room;
  }

  /** Its node is not reached; and when it has left: it went without a goodbye. */
  get lost(): boolean {
    return this.#lost;
  }

  /** How it is reached; undefined while it is not. */
  get path(): Path | undefined {
    if (!this.#connection?.open) return undefined;
    return this.#connection.relayed ? 'nodes' : this.#leg.path;
  }

  /** The same, with how and why. */
  get way(): Way | undefined {
    const { path } = this;
    if (path === 'nodes') {
      const reasons = this.#reasons ?? this.#negotiation.attempt?.reasons;
      return { path, ...reasons, ...(reasons?.noTurn === 'no_turn' && this.#room.noServers && { noTurn: 'forbidden' }) };
    }
    if (path !== 'turn') return path && { path };
    const reasons = this.#connection?.attempt?.reasons;
    return { ...this.#leg, ...(reasons && { noDirect: reasons.noDirect }) };
  }

  get open(): boolean {
    return this.#connection?.open ?? false;
  }

  /** The connection, which has to be open. */
  get present(): Connection {
    if (!this.#connection?.open) throw new PeerserverError('unknown_peer', `${this.peer.id.slice(0, 8)} is not connected`);
    return this.#connection;
  }

  // For the room.

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

  /** There is another node: what was on its way over the one before may be lost. */
  repeat(): void {
    this.#negotiation.repeat();
  }

  /** The network has changed: what would be tried later is tried now. */
  hurry(): void {
    this.#negotiation.hurry();
  }

  /** It may not be reached any more: if it does not answer, another way is looked for. */
  doubt(): void {
    const connection = this.#connection;
    if (!this.passes) return;
    void this.#room.answers(this).then((answers) => {
      if (!answers && this.#connection === connection) this.#negotiation.mend();
    });
  }

  /** There are other credentials for TURN servers: what goes over one by itself needs them if it has its own for longer than `age` ms. */
  renewed(age: number): void {
    if (this.path === 'turn' && this.#leg.transport) this.#negotiation.renewed(age);
  }

  /** A node says that it is there. */
  arrived(presence: Presence, node: Uint8Array, epoch: number): void {
    if (presence.issued >= this.presence.issued) this.presence = presence;
    if (node.length === 32) this.nodeId = printed(node);
    this.epoch = epoch;
    this.shown = true;
    this.departed = this.hopeless = this.#lost = false;
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
    this.calls?.end();
    this.calls = undefined;
    clearTimeout(this.#end);
    if (!wasOpen) return;
    this.#lost = !this.departed;
    this.#told = '';
    this.peer.emit('closed');
    this.#room.ended(this);
  }

  // Over nodes.

  #wishes(): void {
    if (this.#room.relays && !this.#connection && performance.now() >= this.#unrelayedUntil) this.#wish ??= setTimeout(() => this.#relay(), RELAYED_AFTER);
  }

  #relay(): void {
    clearTimeout(this.#wish);
    this.#wish = undefined;
    if (!this.#room.relays || this.#connection || !this.shown || performance.now() < this.#unrelayedUntil) return;
    this.#connection = new Connection(this);
    this.#connection.relay();
  }

  #onPiece(plain: Uint8Array): void {
    if (!this.#room.relays) return;
    const piece = Piece.decode(plain);
    if (piece.sequence === 1n && piece.run !== this.#connection?.theirRun && !this.#ended.includes(piece.run)) {
      if (!this.affords()) return;
      this.#onRun();
    }
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

  configuration(few: boolean): RTCConfiguration {
    return this.#room.configuration(few);
  }

  /** Whether one more connection is made at its wish: each costs a key and sockets, and the app hears of it. */
  affords(): boolean {
    const now = performance.now();
    this.#served = Math.max(this.#served, now);
    if (this.#served - now > SERVED.burst * SERVED.each) return false;
    this.#served += SERVED.each;
    return true;
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

  noWay(attempt: Attempt): void {
    this.#reasons = attempt.reasons;
    this.#relay();
  }

  troubled(): void {
    this.#room.troubled();
  }

  idle(): void {
    if (!this.#connection) clearTimeout(this.#wish);
    if (!this.#connection) this.#wish = undefined;
    this.hopeless = !this.#connection;
    this.#room.idle(this);
  }

  incoming(channel: RTCDataChannel): void {
    this.peer.emit('channel', channel);
  }

  ended(attempt: Attempt): void {
    if (!attempt.open && attempt.remote) this.#reasons = attempt.reasons;
    if (this.#connection?.attempt === attempt) this.#finish();
  }

  // What attempts and connections tell.

  opened(way: Attempt | Connection): void {
    if (way instanceof Connection) {
      this.#opened();
      return;
    }
    this.#connection ??= new Connection(this);
    this.#leg = legNow(way.pc) ?? { path: 'direct' };
    this.#reasons = undefined;
    this.#connection.direct(way);
    way.onPath(() => void this.#look(way));
    void this.#look(way);
  }

  #opened(): void {
    clearTimeout(this.#wish);
    this.#wish = undefined;
    this.#told = this.#shown;
    this.calls = new Calls(this.peer, this.#room.commands, (said) => this.sendControl(said));
    this.#room.opened(this);
    if (this.path === 'nodes') this.#negotiation.slowly();
  }

  upgraded(): void {
    clearTimeout(this.#end);
  }

  /** Finds out how the connection goes, and tells when that has changed. */
  async #look(attempt: Attempt): Promise<void> {
    const leg = await attempt.leg().catch(() => this.#leg);
    if (this.#connection?.attempt !== attempt || !this.open) return;
    this.#leg = leg;
    if (this.#shown === this.#told) return;
    this.#told = this.#shown;
    this.peer.emit('path');
    this.#room.path(this);
  }

  get #shown(): string {
    const way = this.way;
    return `${way?.path} ${way?.transport}`;
  }

  message(data: Bytes): void {
    this.#room.message(this, data);
  }

  control(said: Of<typeof Control>): void {
    this.calls?.take(said);
    this.#room.control(this, said);
  }

  broken(connection: Connection): void {
    if (this.#connection !== connection) return;
    const { attempt } = connection;
    if (attempt) {
      this.#negotiation.closed(attempt);
      return;
    }
    const wasOpen = connection.open;
    this.#finish();
    if (wasOpen) this.#negotiation.hasten();
    else this.#unrelayedUntil = performance.now() + UNRELAYED_FOR;
    if (!this.#negotiation.busy) this.idle();
  }

  replaced(connection: Connection, attempt: Attempt, rest: Of<typeof Control>): void {
    if (this.#connection !== connection) return;
    this.#finish();
    this.#connection = new Connection(this);
    this.#connection.direct(attempt, rest, connection.held);
  }
}
