// One other member of a room, as the app sees it.

import type { CallOptions } from './asked.ts';
import type { Calls } from './calls.ts';
import { hex, printed } from './bytes.ts';
import { PeerserverError } from './errors.ts';
import { Events } from './events.ts';
import type { Member } from './member.ts';
import type { Room } from './room.ts';
import type { Path, Way } from './way.ts';

const MAX_MESSAGE = (64 << 10) - 1; // what pion and every browser take in one message

/** Somebody that a peer says it is connected to. */
export interface Link {
  readonly id: string;
  readonly session: string;
  readonly name: string;
  readonly path: Path;
}

/**
 * Another member of the room: one session of one key.
 *
 * Events: `channel` for a data channel that it opened, `path` when the way to it is another, `closed` when the connection has ended.
 */
export class Peer extends Events<{ channel: [channel: RTCDataChannel]; path: []; closed: [] }> {
  /** Its id, in z-base-32: the same for all sessions of one key. */
  readonly id: string;
  /** Tells apart the sessions of one key: tabs, devices, joins. */
  readonly session: string;
  readonly #member: Member;

  /** @internal */
  constructor(member: Member, id: Uint8Array) {
    super();
    this.#member = member;
    this.id = printed(id.subarray(0, 32));
    this.session = hex(id.subarray(32));
  }

  get name(): string {
    return this.#member.presence.name;
  }

  get services(): readonly string[] {
    return this.#member.presence.services;
  }

  get metadata(): Uint8Array {
    return this.#member.presence.metadata;
  }

  /** Id of the node that it is on, in z-base-32; undefined when no node has said. */
  get node(): string | undefined {
    return this.#member.nodeId || undefined;
  }

  /** Its node is not reached; and when it has left: it went without a goodbye. */
  get lost(): boolean {
    return this.#member.lost;
  }

  /** How it is reached; undefined while it is not. */
  get path(): Path | undefined {
    return this.#member.path;
  }

  /** The same with how and why: over which transport a TURN server is used, and why there is no better way. A copy of what is now. */
  get way(): Way | undefined {
    return this.#member.way;
  }

  /** The browser's own connection, for media and statistics; undefined while there is none, as when it goes over nodes. */
  get connection(): RTCPeerConnection | undefined {
    return this.open ? this.#member.present.attempt?.pc : undefined;
  }

  get open(): boolean {
    return this.#member.open;
  }

  /** Whom it says it is connected to. */
  get links(): Link[] {
    return [...this.#member.linked.values()].map(({ presence: { member, name }, path }) => ({
      id: printed(member.subarray(0, 32)), session: hex(member.subarray(32)), name, path,
    }));
  }

  /** Sends bytes or text, in order. Resolves when there is room for more, so that waiting for it bounds memory. */
  async send(data: Uint8Array | string): Promise<void> {
    const connection = this.#member.present;
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
    if (bytes.length > MAX_MESSAGE) throw new PeerserverError('too_large', `a message has at most ${MAX_MESSAGE} bytes`);
    await connection.send(bytes);
  }

  /** Opens a further channel to it, which needs a connection that does not go over nodes. */
  channel(label: string, options?: RTCDataChannelInit): RTCDataChannel {
    const { attempt } = this.#member.present;
    if (!attempt) throw new PeerserverError('refused', `${this.id.slice(0, 8)} is reached over nodes only, and those carry no channels`);
    return attempt.pc.createDataChannel(label, options);
  }

  /**
   * Has it run a command, and answers what that returns. A RemoteError is what it answers instead.
   *
   * @example
   * const names = await peer.call('files.list', { folder: '/' }, { timeout: 5000 })
   */
  async call(path: string, args?: unknown, options?: CallOptions): Promise<unknown> {
    return this.#calls.call(path, args, options);
  }

  /**
   * The same for a command that gives values one after the other.
   *
   * @example
   * for await (const line of peer.stream('log.tail')) console.log(line)
   */
  stream(path: string, args?: unknown, options?: CallOptions): AsyncIterableIterator<unknown> {
    return this.#calls.stream(path, args, options);
  }

  /** The membership that it was met in. */
  get room(): Room {
    return this.#member.room;
  }

  /** Leaves what `dial` has joined. Any other peer stays until one of the two leaves their room. */
  async close(): Promise<void> {
    if (!this.room.dials) throw new PeerserverError('denied', 'this peer was not dialled; leave its room instead');
    await this.room.leave();
  }

  get #calls(): Calls {
    if (!this.#member.calls) throw new PeerserverError('unknown_peer', `${this.id.slice(0, 8)} is not connected`);
    return this.#member.calls;
  }
}
