// Messages for all members: over connections to those who are connected, and over nodes to the others, at most once each.

import { equal, hex, keyOf, printed } from './bytes.ts';
import { openBroadcast, sealBroadcast, type Identity, Window } from './crypto.ts';
import { PeerserverError } from './errors.ts';
import type { Member } from './member.ts';
import type { Envelope, Of, Spread } from './wire.ts';

const MAX_MESSAGE = 55 << 10; // so that the envelope is one that nodes take
const MAX_SENDERS = 1024; // whose sequences are remembered
const MAX_QUEUED = 64; // of a peer, or of nodes, that are not yet opened

/** Who has sent a broadcast. */
export interface Sender {
  readonly id: string;
  readonly session: string;
  /** Empty when nobody has shown it yet. */
  readonly name: string;
}

/** What broadcasts need of their room. */
export interface BroadcastsRoom {
  readonly app: Uint8Array;
  readonly member: Uint8Array;
  readonly identity: Identity;
  readonly broadcastKey: Uint8Array;
  /** Those who are connected. */
  readonly connected: Member[];
  find(member: Uint8Array): Member | undefined;
  /** Whether there is a node. */
  readonly homed: boolean;
  /** Whether there are members to which there is no connection and none is being made. */
  readonly others: boolean;
  /** Gives an envelope to the node. */
  publish(envelope: Of<typeof Envelope>): Promise<void>;
  message(peer: Member, data: Uint8Array<ArrayBuffer>): void;
  broadcast(sender: Sender, data: Uint8Array<ArrayBuffer>): void;
}

export class Broadcasts {
  readonly #room: BroadcastsRoom;
  readonly #windows = new Map<string, Window>(); // by member, the one that was silent longest first
  #sequence = 0n;
  #out: Promise<unknown> = Promise.resolve();
  #in: Promise<unknown> = Promise.resolve();
  readonly #queued = new WeakMap<object, number>();

  constructor(room: BroadcastsRoom) {
    this.#room = room;
  }

  /** Resolves when there is room for more; is rejected when the node did not take it for those who are not connected. */
  async send(data: Uint8Array | string): Promise<void> {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
    if (!this.#room.others) return void (await Promise.allSettled(this.#room.connected.map((member) => member.peer.send(bytes))));
    if (bytes.length > MAX_MESSAGE) throw new PeerserverError('too_large', `a broadcast to members that are not connected has at most ${MAX_MESSAGE} bytes`);
    const { app, identity, member, broadcastKey } = this.#room;
    this.#sequence++;
    const sealed = Promise.all([sealBroadcast(identity, app, member, this.#sequence, broadcastKey, bytes), this.#out]);
    const sent = sealed.then(([envelope]) => ({ done: this.#give(envelope) })); // in order, but without waiting for one another
    this.#out = sent.catch(() => {});
    await (await sent).done;
  }

  async #give(envelope: Of<typeof Envelope>): Promise<void> {
    const pass = !this.#room.homed;
    const published = pass ? Promise.resolve() : this.#room.publish(envelope);
    await Promise.allSettled(this.#room.connected.map((peer) => peer.sendControl({ spread: { envelope, pass } })));
    await published;
  }

  /** Takes what came over a connection. */
  spread(from: Member, { envelope, pass }: Of<typeof Spread>): void {
    if (envelope) this.#queue(from, () => this.#open(envelope, pass ? from : undefined));
  }

  /** Takes what came over a node. */
  take(envelope: Of<typeof Envelope>): void {
    this.#queue(this, () => this.#open(envelope, undefined));
  }

  #queue(source: object, open: () => Promise<void>): void {
    const queued = this.#queued.get(source) ?? 0;
    if (queued >= MAX_QUEUED) return;
    this.#queued.set(source, queued + 1);
    this.#in = this.#in.then(open).catch(() => {}).finally(() => this.#queued.set(source, (this.#queued.get(source) ?? 1) - 1));
  }

  async #open(envelope: Of<typeof Envelope>, passFor: Member | undefined): Promise<void> {
    const { header, plain } = await openBroadcast(envelope, this.#room.app, this.#room.broadcastKey);
    if (equal(header.from, this.#room.member)) return;
    this.#window(keyOf(header.from)).take(header.sequence);
    if (passFor && equal(passFor.presence.member, header.from)) this.#pass(passFor, envelope);
    const peer = this.#room.find(header.from);
    const data = plain as Uint8Array<ArrayBuffer>;
    if (peer?.open) return this.#room.message(peer, data);
    const [id, session] = [header.from.subarray(0, 32), header.from.subarray(32)];
    this.#room.broadcast({ id: printed(id), session: hex(session), name: peer?.presence.name ?? '' }, data);
  }

  /** For one who has no node: to those whom it does not reach. */
  #pass(from: Member, envelope: Of<typeof Envelope>): void {
    for (const peer of this.#room.connected) {
      if (peer !== from && !from.linked.has(keyOf(peer.presence.member))) peer.sendControl({ spread: { envelope } }).catch(() => {});
    }
  }

  #window(from: string): Window {
    const window = this.#windows.get(from) ?? new Window();
    this.#windows.delete(from);
    this.#windows.set(from, window);
    const [oldest] = this.#windows.keys();
    if (this.#windows.size > MAX_SENDERS && oldest !== undefined) this.#windows.delete(oldest);
    return window;
  }
}
