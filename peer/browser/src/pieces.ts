// The two channels of a connection while they go over nodes: messages are cut into Pieces, of which each is delivered once and
// in order. The sender keeps a Piece until it is acknowledged.

import { type Bytes, concat } from './bytes.ts';
import type { Init, Value } from './codec.ts';
import { PeerserverError } from './errors.ts';
import type { Piece } from './wire.ts';

const SIZE = 16 << 10; // of one Piece
const WINDOW = 128 << 10; // bytes on their way
const MAX_FLIGHT = 32; // Pieces on their way, however small: half of what envelopes may be out of order
const MAX_EARLY = 64; // Pieces that came before others
const MAX_PARTS = 64; // of a message
const PACE = 64; // bytes a millisecond
const BURST = 32 << 10; // of the pace
const AGAIN_AFTER = [2000, 4000, 8000, 10_000]; // ms without an acknowledgement
const ENDED_AFTER = 30_000;
const ACK_AFTER = 50;
const ACK_BYTES = 32 << 10; // that have come before an acknowledgement does not wait
const MAX_QUEUED = 4 << 20;
const FULL = 1 << 20; // bytes that wait before send waits
const MAX_MESSAGE = 65_535;

type Said = Value<typeof Piece.fields>;

export interface PiecesHost {
  /** Seals a Piece and gives it to a node; is rejected when the node refuses it. */
  post(piece: Init<typeof Piece.fields>): Promise<void>;
  /** A message has come, on channel 0 or 1. */
  message(channel: number, data: Bytes): void;
  /** Nothing was acknowledged for 30 s, or the other side breaks the rules. */
  broken(): void;
}

interface Out {
  readonly sequence: bigint;
  readonly channel: number;
  readonly more: boolean;
  readonly data: Uint8Array;
  tries: number;
  due: number;
}

export class Pieces {
  /** Names this direction of this connection. */
  readonly run = random64();
  /** Names the other direction; 0n while nothing has come. */
  theirs = 0n;

  readonly #host: PiecesHost;
  #next = 1n;
  #queue: Out[] = []; // not sent yet
  #flight: Out[] = []; // not acknowledged yet
  #queued = 0; // bytes in both
  #drained: (() => void)[] = [];
  #credit = BURST;
  #filled = performance.now(); // when the credit was counted
  #heard = 0; // when something was acknowledged, or had nothing to be
  #pausedUntil = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #over = false; // nothing more is given to nodes

  #expected = 1n;
  readonly #early = new Map<bigint, Said>();
  #earlyBytes = 0;
  readonly #parts: [Uint8Array[], Uint8Array[]] = [[], []];
  #owed = 0; // bytes that came since the last acknowledgement
  #ackTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(host: PiecesHost) {
    this.#host = host;
  }

  /** Sends a message. Resolves when there is room for more. */
  async send(channel: number, data: Uint8Array): Promise<void> {
    if (this.#queued + data.length > MAX_QUEUED) throw new PeerserverError('full', 'too much waits to be relayed', 1000);
    for (let at = 0; at === 0 || at < data.length; at += SIZE) {
      const part = data.slice(at, at + SIZE);
      this.#queue.push({ sequence: this.#next++, channel, more: at + SIZE < data.length, data: part, tries: 0, due: 0 });
      this.#queued += part.length;
    }
    this.#pump();
    if (this.#queued >= FULL) await new Promise<void>((resolve) => this.#drained.push(resolve));
  }

  /** Takes a Piece of the other side; `owe` when it came over nodes and wants to be acknowledged. */
  take(piece: Said, owe: boolean): void {
    if (piece.ackRun === this.run) this.#acknowledged(piece.ack);
    if (piece.sequence === 0n) return;
    if (this.theirs === 0n) this.theirs = piece.run;
    if (piece.run !== this.theirs || piece.data.length > SIZE || piece.channel > 1) return;
    if (owe) this.#owe(piece.data.length);
    if (piece.sequence > this.#expected) return this.#keep(piece);
    if (piece.sequence < this.#expected) return;
    for (let one: Said | undefined = piece; one; one = this.#early.get(this.#expected)) {
      if (this.#early.delete(this.#expected)) this.#earlyBytes -= one.data.length;
      this.#expected++;
      this.#put(one);
    }
  }

  /** Ends sending over nodes and gives back what was not acknowledged, in order. */
  handOver(): Init<typeof Piece.fields>[] {
    const all = [...this.#flight, ...this.#queue];
    this.stop();
    return all.map(({ sequence, channel, more, data }) => ({ run: this.run, sequence, channel, more, data }));
  }

  stop(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#flight = [];
    this.#queue = [];
    this.#queued = 0;
    this.#wake();
  }

  /** Ends receiving too. */
  close(): void {
    this.stop();
    clearTimeout(this.#ackTimer);
  }

  /** Until those before it have come. */
  #keep(piece: Said): void {
    if (this.#early.has(piece.sequence) || this.#early.size >= MAX_EARLY || this.#earlyBytes + piece.data.length > WINDOW) return;
    this.#early.set(piece.sequence, piece);
    this.#earlyBytes += piece.data.length;
  }

  #put(piece: Said): void {
    const parts = this.#parts[piece.channel as 0 | 1];
    parts.push(piece.data);
    if (parts.reduce((n, part) => n + part.length, 0) > MAX_MESSAGE || parts.length > MAX_PARTS) {
      parts.length = 0;
      this.#host.broken();
    } else if (!piece.more) {
      this.#host.message(piece.channel, concat(...parts.splice(0)));
    }
  }

  #owe(bytes: number): void {
    this.#owed += bytes;
    if (this.#owed >= ACK_BYTES) {
      this.#acknowledge();
    } else {
      this.#ackTimer ??= setTimeout(() => this.#acknowledge(), ACK_AFTER);
    }
  }

  #acknowledge(): void {
    this.#acknowledging();
    this.#host.post({ run: this.run, ackRun: this.theirs, ack: this.#expected - 1n }).catch(() => {}); // it comes again, and then so does this
  }

  #acknowledging(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    this.#owed = 0;
  }

  #acknowledged(upTo: bigint): void {
    const before = this.#flight.length;
    while (this.#flight[0] && this.#flight[0].sequence <= upTo) this.#queued -= this.#flight.shift()?.data.length ?? 0;
    if (this.#flight.length === before) return;
    this.#heard = performance.now();
    if (this.#queued < FULL / 4) this.#wake();
    this.#pump();
  }

  #wake(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** Sends what may be sent now, and sees to it that this is called again. */
  #pump(): void {
    clearTimeout(this.#timer);
    if (this.#over) return;
    const now = performance.now();
    this.#credit = Math.min(BURST, this.#credit + (now - this.#filled) * PACE);
    this.#filled = now;
    if (this.#flight.length > 0 && now - this.#heard > ENDED_AFTER) {
      this.#host.broken();
      return;
    }
    if (now >= this.#pausedUntil) this.#sendSome(now);
    const wait = this.#wait(now);
    if (wait !== undefined) this.#timer = setTimeout(() => this.#pump(), wait);
  }

  #sendSome(now: number): void {
    const [oldest] = this.#flight;
    if (oldest && oldest.due <= now) this.#post(oldest, now); // later ones may only wait for it at the other side
    let inFlight = this.#flight.reduce((n, one) => n + one.data.length, 0);
    for (let [one] = this.#queue; one && this.#flight.length < MAX_FLIGHT && inFlight + one.data.length <= WINDOW; [one] = this.#queue) {
      if (this.#credit < one.data.length) return;
      if (this.#flight.length === 0) this.#heard = now;
      this.#queue.shift();
      this.#flight.push(one);
      inFlight += one.data.length;
      this.#post(one, now);
    }
  }

  /** Until there is something to do: a Piece to be sent again, or room in the pace. */
  #wait(now: number): number | undefined {
    const times: number[] = [];
    const [oldest] = this.#flight;
    const [next] = this.#queue;
    if (oldest) times.push(oldest.due - now, this.#heard + ENDED_AFTER + 1 - now);
    if (next && this.#credit < next.data.length) times.push((next.data.length - this.#credit) / PACE);
    if (times.length === 0) return undefined;
    return Math.max(1, this.#pausedUntil - now, Math.min(...times));
  }

  #post(one: Out, now: number): void {
    one.due = now + (AGAIN_AFTER[Math.min(one.tries, AGAIN_AFTER.length - 1)] ?? 0);
    one.tries++;
    this.#credit -= one.data.length;
    this.#acknowledging();
    const { sequence, channel, more, data } = one;
    const piece = { run: this.run, sequence, channel, more, data, ackRun: this.theirs, ack: this.#expected - 1n };
    this.#host.post(piece).catch((err: unknown) => this.#refused(one, err));
  }

  /** A node that has had too much says when it takes more. Other failures are left to the time that an acknowledgement may take. */
  #refused(one: Out, err: unknown): void {
    if (!(err instanceof PeerserverError) || err.retryAfter <= 0 || (err.code !== 'rate' && err.code !== 'full')) return;
    const until = performance.now() + err.retryAfter;
    this.#pausedUntil = Math.max(this.#pausedUntil, until);
    one.due = Math.min(one.due, until);
    this.#pump();
  }
}

function random64(): bigint {
  const [n = 0n] = crypto.getRandomValues(new BigUint64Array(1));
  return n || 1n;
}
