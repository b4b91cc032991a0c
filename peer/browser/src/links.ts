// Who is connected to whom, as peers say: members that no node shows are found through others, and signals go through them.

import { equal, keyOf } from './bytes.ts';
import { type Presence, verifyPresence } from './crypto.ts';
import type { Member } from './member.ts';
import type { Path } from './way.ts';
import { type Control, type Envelope, Forward, type Of, Path as Wire } from './wire.ts';

const MAX_LINKED = 100; // of a peer
const MAX_QUEUED = 256; // Controls of a peer that are not yet taken
const MAX_ENVELOPE = 32 << 10;
const FORWARDED_WITHIN = 500;
const ANSWERED_WITHIN = 1000;
const FORWARDS = { burst: 512 << 10, pace: 64, each: 1 << 10 }; // of a peer, in bytes: at once, in a ms, and on top of each
const VIAS = 3; // that are tried when there is no node
const CODES = { ok: 0, tooLarge: 3, rate: 4, unknownPeer: 5 }; // protocol.Code

const PATHS: { readonly [path in Path]: number } = Wire;

/** What links need of their room. */
export interface LinksRoom {
  readonly app: Uint8Array;
  readonly member: Uint8Array;
  /** Those who are connected. */
  readonly connected: Member[];
  find(member: Uint8Array): Member | undefined;
  /** A member that a peer is connected to. */
  linked(presence: Presence): void;
  /** An envelope for this one. */
  passed(envelope: Of<typeof Envelope>): Promise<void>;
}

interface Queue {
  turn: Promise<void>;
  length: number;
  credit: number; // bytes that it may have forwarded
  filled: number;
}

export class Links {
  readonly #room: LinksRoom;
  readonly #queues = new WeakMap<Member, Queue>();
  readonly #waiting = new Map<number, { via: Member; done: (code: number) => void }>(); // by ref: only who was asked may answer
  #ref = 0;

  constructor(room: LinksRoom) {
    this.#room = room;
  }

  /** Tells the others of one who is connected now, and that one of the others. */
  opened(peer: Member): void {
    this.changed(peer);
    for (const other of this.#room.connected.slice(0, MAX_LINKED)) if (other !== peer) this.#tell(peer, other);
  }

  /** Tells the others how it is connected now. */
  changed(peer: Member): void {
    for (const other of this.#room.connected) if (other !== peer) this.#tell(other, peer);
  }

  ended(peer: Member): void {
    peer.linked.clear();
    for (const other of this.#room.connected) other.sendControl({ unlinked: { member: peer.presence.member } }).catch(() => {});
  }

  #tell(to: Member, of: Member): void {
    if (of.path) to.sendControl({ linked: { presence: of.presence.signed, path: PATHS[of.path] } }).catch(() => {});
  }

  /** Takes what a peer says of its links, in order. Answers whether it was that. */
  control(peer: Member, said: Of<typeof Control>): boolean {
    if (said.forwarded) {
      const asked = this.#waiting.get(said.forwarded.ref);
      if (asked?.via === peer) asked.done(said.forwarded.code);
    } else if (said.forward) {
      peer.sendControl({ forwarded: { ref: said.forward.ref, code: this.#pass(peer, said.forward) } }).catch(() => {});
    } else if (said.linked || said.unlinked || said.passed) {
      this.#queued(peer, () => this.#take(peer, said));
    } else {
      return false;
    }
    return true;
  }

  #queue(peer: Member): Queue {
    const queue = this.#queues.get(peer) ?? { turn: Promise.resolve(), length: 0, credit: FORWARDS.burst, filled: 0 };
    this.#queues.set(peer, queue);
    return queue;
  }

  #queued(peer: Member, take: () => Promise<void>): void {
    const queue = this.#queue(peer);
    if (queue.length >= MAX_QUEUED) return;
    queue.length++;
    queue.turn = queue.turn.then(take).catch(() => {}).finally(() => void queue.length--);
  }

  async #take(peer: Member, said: Of<typeof Control>): Promise<void> {
    if (said.passed) await this.#room.passed(said.passed);
    if (said.unlinked) peer.linked.delete(keyOf(said.unlinked.member));
    if (!said.linked?.presence) return;
    const presence = await this.#verified(said.linked.presence);
    if (!peer.open || equal(presence.member, this.#room.member)) return;
    const key = keyOf(presence.member);
    if (peer.linked.size >= MAX_LINKED && !peer.linked.has(key)) return;
    peer.linked.set(key, { presence, path: pathOf(said.linked.path) });
    this.#room.linked(presence);
  }

  /** One that is known need not be verified again. */
  async #verified(signed: Presence['signed']): Promise<Presence> {
    const known = signed.key.length === 32 && this.#room.connected.map((peer) => peer.presence).find((p) => equal(p.signed.signature, signed.signature));
    if (known && equal(known.signed.body, signed.body) && equal(known.signed.key, signed.key)) return known;
    return verifyPresence(signed, this.#room.app);
  }

  /** Passes on what a peer has for another; answers the code. */
  #pass(peer: Member, { to, envelope }: Of<typeof Forward>): number {
    const queue = this.#queue(peer);
    const now = performance.now();
    queue.credit = Math.min(FORWARDS.burst, queue.credit + (now - queue.filled) * FORWARDS.pace);
    queue.filled = now;
    const size = envelope ? envelope.body.length + envelope.signature.length : Infinity;
    if (!envelope || size > MAX_ENVELOPE) return CODES.tooLarge;
    if (queue.credit < size + FORWARDS.each) return CODES.rate;
    queue.credit -= size + FORWARDS.each;
    const other = this.#room.find(to);
    if (!other?.passes) return CODES.unknownPeer;
    other.sendControl({ passed: envelope }).catch(() => {});
    return CODES.ok;
  }

  /** Whether somebody who is connected says that it is connected to this one. */
  has(member: Uint8Array): boolean {
    const key = keyOf(member);
    return this.#room.connected.some((peer) => peer.linked.has(key));
  }

  /** Sends an envelope through a peer; answers whether one has passed it on. Without a node, `alone`, more of them are tried. */
  async forward(to: Uint8Array, envelope: Of<typeof Envelope>, alone: boolean): Promise<boolean> {
    if (envelope.body.length + envelope.signature.length > MAX_ENVELOPE) return false;
    const key = keyOf(to);
    const vias = this.#room.connected.filter((peer) => peer.passes && (peer.linked.get(key)?.path ?? 'nodes') !== 'nodes');
    for (const via of vias.slice(0, alone ? VIAS : 1)) {
      if ((await this.#ask(via, to, envelope)) === CODES.ok) return true;
    }
    return false;
  }

  /** Whether a peer answers at once. It is asked for nothing that it would do. */
  async answers(peer: Member): Promise<boolean> {
    return (await this.#ask(peer, this.#room.member, undefined, ANSWERED_WITHIN)) !== CODES.unknownPeer;
  }

  #ask(via: Member, to: Uint8Array, envelope: Of<typeof Envelope> | undefined, within = FORWARDED_WITHIN): Promise<number> {
    return new Promise((resolve) => {
      this.#ref = this.#ref >= 0x7fffffff ? 1 : this.#ref + 1;
      const ref = this.#ref;
      const done = (code: number) => {
        clearTimeout(timer);
        this.#waiting.delete(ref);
        resolve(code);
      };
      const timer = setTimeout(() => done(CODES.unknownPeer), within);
      this.#waiting.set(ref, { via, done });
      via.sendControl({ forward: { ref, to, envelope } }).catch(() => done(CODES.unknownPeer));
    });
  }
}

function pathOf(wire: number): Path {
  return wire === Wire.nodes ? 'nodes' : wire === Wire.turn ? 'turn' : 'direct';
}
