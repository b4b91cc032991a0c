// A connection to a peer as the app has it: a channel of messages and one of Controls, over WebRTC, or over nodes as Pieces, or
// first over these and then over that, without a message being lost, doubled or out of order.

import type { Attempt } from './attempt.ts';
import type { Bytes } from './bytes.ts';
import type { Init } from './codec.ts';
import { Pieces } from './pieces.ts';
import { Control, type Of, type Piece } from './wire.ts';

const MAIN = 0;
const CONTROL = 1;
const MAX_HELD = 4 << 20; // bytes on channel 0 before the other side's Start

type Said = Of<typeof Control>;

export interface ConnectionHost {
  /** Gives a Piece to a node. */
  post(piece: Init<typeof Piece.fields>): Promise<void>;
  opened(connection: Connection): void;
  /** From nodes to a way of its own. */
  upgraded(connection: Connection): void;
  message(data: Bytes): void;
  control(said: Said): void;
  broken(connection: Connection): void;
  /** The other side has begun anew, over `attempt`; `rest` is what it has said there. */
  replaced(connection: Connection, attempt: Attempt, rest: Said): void;
}

export class Connection {
  readonly #host: ConnectionHost;
  attempt: Attempt | undefined;
  open = false;
  #pieces: Pieces | undefined;
  #started = false; // the other side's Start has come over the attempt
  /** What has come on channel 0 before the other side's Start. */
  held: Bytes[] = [];
  #heldBytes = 0;
  #ended = false;

  constructor(host: ConnectionHost) {
    this.#host = host;
  }

  /** Whether it goes over nodes, or would like to. */
  get relayed(): boolean {
    return !this.attempt && this.#pieces !== undefined;
  }

  /** The run of the other side's Pieces; 0n: there were none. */
  get theirRun(): bigint {
    return this.#pieces?.theirs ?? 0n;
  }

  /** Whether the other side has an open attempt too. */
  get started(): boolean {
    return this.#started;
  }

  /** Begins to go over nodes. */
  relay(): void {
    if (this.attempt || this.#pieces) return;
    this.#receiving();
    void this.sendControl({ start: {} }).catch(() => {});
  }

  #receiving(): Pieces {
    this.#pieces ??= new Pieces({
      post: (piece) => this.#host.post(piece),
      message: (channel, data) => this.#message(channel, data, false),
      broken: () => this.#host.broken(this),
    });
    return this.#pieces;
  }

  /** Takes a Piece that came over nodes: one of its run, the first of any, or an acknowledgement. */
  piece(piece: Of<typeof Piece>): void {
    if (piece.sequence === 0n) return this.#pieces?.take(piece, false);
    if (this.#started) return; // its sender has sent it again over the attempt
    this.#receiving().take(piece, true);
    if (!this.attempt && this.theirRun !== 0n) this.#opened();
  }

  #opened(): void {
    if (this.open || this.#ended) return;
    this.open = true;
    this.#host.opened(this);
  }

  /** Goes over `attempt`, whose channels are open. `said` and `held` have come there already, when it replaces another connection. */
  direct(attempt: Attempt, said?: Said, held: Bytes[] = []): void {
    const wasOpen = this.open;
    const run = this.#pieces?.run ?? 0n;
    const rest = this.#pieces?.handOver() ?? [];
    this.attempt = attempt;
    if (!said) {
      for (const piece of rest) void this.sendControl({ piece }).catch(() => {});
      void this.sendControl({ start: { run } }).catch(() => {});
    }
    this.#opened();
    if (wasOpen) this.#host.upgraded(this);
    this.held.push(...held);
    if (said) this.#control(said, true);
    attempt.attach((channel, data) => this.#message(channel, data, true));
  }

  send(data: Uint8Array): Promise<void> {
    return this.attempt?.send(MAIN, data) ?? this.#receiving().send(MAIN, data);
  }

  sendControl(said: Init<typeof Control.fields>): Promise<void> {
    const data = Control.encode(said);
    return this.attempt?.send(CONTROL, data) ?? this.#receiving().send(CONTROL, data);
  }

  end(): void {
    this.#ended = true;
    this.open = false;
    this.#pieces?.close();
  }

  #message(channel: number, data: Bytes, direct: boolean): void {
    if (this.#ended) return;
    if (channel === CONTROL) {
      const said = decoded(data);
      if (said) this.#control(said, direct);
    } else if (direct && !this.#started) {
      this.#heldBytes += data.length;
      if (this.#heldBytes > MAX_HELD) this.#host.broken(this);
      else this.held.push(data);
    } else {
      this.#host.message(data);
    }
  }

  #control(said: Said, direct: boolean): void {
    if (!direct || this.#started) {
      if (!said.start && !said.piece) this.#host.control(said);
    } else if (said.piece) {
      if (this.theirRun !== 0n && said.piece.run !== this.theirRun) this.#replaced(said);
      else this.#receiving().take(said.piece, false);
    } else if (said.start) {
      this.#start(said);
    }
  }

  /** What comes now follows the Pieces. */
  #start(said: Said): void {
    if (this.theirRun !== 0n && said.start?.run !== this.theirRun) return this.#replaced(said);
    this.#started = true;
    this.#pieces?.close();
    for (const data of this.held.splice(0)) {
      if (!this.#ended) this.#host.message(data);
    }
  }

  #replaced(said: Said): void {
    if (this.attempt) this.#host.replaced(this, this.attempt, said);
  }
}

function decoded(data: Uint8Array): Said | undefined {
  try {
    return Control.decode(data);
  } catch {
    return undefined; // of a later version, or of nobody
  }
}
