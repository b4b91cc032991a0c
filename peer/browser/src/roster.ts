// Who is in a room, as far as nodes and peers say, and with whom this peer has or makes a connection.

import { equal, keyOf } from './bytes.ts';
import type { Presence } from './crypto.ts';
import { Member, type MemberRoom } from './member.ts';
import { Kind } from './wire.ts';

const MAX_KNOWN = 1024;
const DOUBT_AFTER = 10_000; // whom a new node has not shown until then is not thought to be there
const MAX_PEERS = 50;
const MAX_UNPROVEN = 8;

export class Roster {
  readonly #room: MemberRoom;
  readonly #most: number;
  readonly #known = new Map<string, Member>(); // by member
  #members = 0;
  #joined = 0; // how many there were, as the node said then
  #listed = 0; // of those, have been shown; nodes that find each other later have more
  #epoch = 0; // how often a node was joined
  #doubt: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(room: MemberRoom, most = MAX_PEERS) {
    this.#room = room;
    this.#most = most;
  }

  /** Those who are connected. */
  get connected(): Member[] {
    return [...this.#known.values()].filter((peer) => peer.open);
  }

  get all(): Iterable<Member> {
    return this.#known.values();
  }

  /** How many others the app has, as far as is known. */
  get members(): number {
    return this.#members;
  }

  /** Whether there are members to which there is no connection and none is being made. */
  get others(): boolean {
    return this.#members > this.#busy;
  }

  find(member: Uint8Array): Member | undefined {
    return this.#known.get(keyOf(member));
  }

  /** A node has been joined. When it has resumed the membership it does not say who is there. */
  joined(members: number, resumed: boolean): void {
    for (const peer of this.#known.values()) peer.repeat();
    if (resumed) {
      for (const peer of this.#known.values()) if (peer.shown) this.#meet(peer, peer.lower);
      return;
    }
    this.#members = this.#joined = members;
    this.#listed = 0;
    const epoch = ++this.#epoch;
    clearTimeout(this.#doubt);
    this.#doubt = setTimeout(() => {
      for (const peer of this.#known.values()) if (peer.epoch !== epoch) peer.shown = false;
    }, DOUBT_AFTER);
  }

  /** A node shows a member; one that was there `before` makes the offer. */
  arrived(presence: Presence, before: boolean, node: Uint8Array): void {
    const peer = this.#remember(presence);
    if (!(peer?.shown && peer.epoch === this.#epoch) && (!before || ++this.#listed > this.#joined)) this.#members++;
    if (!peer) return;
    peer.arrived(presence, node, this.#epoch);
    this.#meet(peer, !before || this.#epoch > 1);
  }

  departed(member: Uint8Array, lost: boolean): void {
    const peer = this.find(member);
    if (peer && !peer.shown) return;
    const shown = [...this.#known.values()].filter((one) => one.shown && one !== peer).length;
    this.#members = Math.max(this.#members - 1, shown);
    peer?.gone(lost);
  }

  /** A member that a peer is connected to. */
  linked(presence: Presence): void {
    const peer = this.#remember(presence);
    if (!peer || peer.busy) return;
    if (presence.issued > peer.presence.issued) {
      peer.presence = presence;
      peer.departed = false;
    }
    if (!peer.departed && !peer.hopeless && this.#unproven < MAX_UNPROVEN) this.#meet(peer, peer.lower);
  }

  /** Whether something of this kind is taken from a peer: those who ask may be as many again as this one asks. */
  takes(peer: Member, kind: number): boolean {
    return peer.busy || (kind !== Kind.offer && kind !== Kind.data) || this.#busy < 2 * this.#most;
  }

  /** There may be room for somebody else. */
  fill(): void {
    for (const peer of this.#known.values()) {
      if (this.#busy >= this.#most) return;
      if (peer.busy || peer.hopeless) continue;
      if (peer.shown) this.#meet(peer, true);
      else if (peer.wanted() && this.#unproven < MAX_UNPROVEN) this.#meet(peer, peer.lower);
    }
  }

  /** The network has changed. */
  hurry(): void {
    for (const peer of this.#known.values()) {
      peer.hopeless = false;
      peer.hurry();
    }
  }

  /** Connections may have ended without a word. */
  doubt(): void {
    for (const peer of this.#known.values()) peer.doubt();
  }

  /** There are other credentials for TURN servers. */
  renewed(age: number): void {
    for (const peer of this.#known.values()) peer.renewed(age);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#doubt);
    for (const peer of this.#known.values()) peer.close();
    this.#known.clear();
  }

  get #busy(): number {
    return [...this.#known.values()].filter((peer) => peer.busy).length;
  }

  /** How many are tried whom no node shows: a peer can say that it is connected to anybody. */
  get #unproven(): number {
    return [...this.#known.values()].filter((peer) => peer.busy && !peer.open && !peer.shown).length;
  }

  #meet(peer: Member, offers: boolean): void {
    if (this.#closed || (!peer.busy && this.#busy >= this.#most)) return;
    peer.hopeless = false;
    peer.meet(offers);
  }

  /**
   * Somebody who is known or for whom there is room. Who has departed is remembered for as long as there is: its sequences go on
   * when it comes back.
   */
  #remember(presence: Presence): Member | undefined {
    const known = this.find(presence.member);
    if (known || this.#closed || equal(presence.member, this.#room.member) || !this.#room.wants(presence.member)) return known;
    if (this.#known.size >= MAX_KNOWN) {
      const old = [...this.#known].find(([, peer]) => !peer.busy && !peer.shown);
      if (!old) return undefined;
      this.#known.delete(old[0]);
    }
    const peer = new Member(this.#room, presence);
    this.#known.set(keyOf(presence.member), peer);
    return peer;
  }
}
