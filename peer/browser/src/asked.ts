// The calls of this side to one peer.

import type { Init } from './codec.ts';
import { isPath } from './commands.ts';
import { PeerserverError } from './errors.ts';
import { remoteError } from './failures.ts';
import { MAX_PART, Parts, partsOf } from './values.ts';
import type { CallError, CallProgress, CallValue, Control, Of } from './wire.ts';

const MAX_PENDING = 256; // calls to one peer that are not over
const WINDOW = 32; // values of a stream that wait to be taken
const CALL_WITHIN = 30_000;

/** Gives a Control to the other side: in the order of the calls, and resolved when there is room for more. */
export type SendControl = (control: Init<typeof Control.fields>) => Promise<void>;

export interface CallOptions {
  /** Milliseconds for all of it: 30,000 for a call, and no limit for a stream, if it is not given. */
  readonly timeout?: number | undefined;
  /** Ends it; the other side is told. */
  readonly signal?: AbortSignal | undefined;
  /** Is told how far the other side is. */
  readonly onProgress?: ((value: unknown) => void) | undefined;
}

class Pending {
  readonly id: number;
  readonly onProgress: CallOptions['onProgress'];
  readonly parts = new Parts();
  /** How many values the other side may send besides the last. */
  credit: number;
  values: unknown[] = [];
  /** Values for which no new credit was given. */
  taken = 0;
  over = false;
  error: { reason: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(id: number, credit: number, onProgress: CallOptions['onProgress']) {
    this.id = id;
    this.credit = credit;
    this.onProgress = onProgress;
  }

  end(error?: { reason: unknown }): void {
    this.over = true;
    this.error = error;
    this.news();
  }

  news(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Resolves with the next news. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

export class Asked {
  readonly #send: SendControl;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #ended = false;

  constructor(send: SendControl) {
    this.#send = send;
  }

  async call(path: string, args: unknown, options: CallOptions): Promise<unknown> {
    const { pending, stop } = await this.#begin(path, args, 0, { timeout: CALL_WITHIN, ...options });
    try {
      return (await this.#next(pending))?.value;
    } finally {
      stop();
    }
  }

  async *stream(path: string, args: unknown, options: CallOptions): AsyncGenerator<unknown, void, undefined> {
    const { pending, stop } = await this.#begin(path, args, WINDOW, options);
    try {
      for (let next = await this.#next(pending); next; next = await this.#next(pending)) yield next.value;
    } finally {
      stop();
    }
  }

  /** Sends a call with all its arguments. Whoever began it has to stop it. */
  async #begin(path: string, args: unknown, credit: number, options: CallOptions): Promise<{ pending: Pending; stop: () => void }> {
    options.signal?.throwIfAborted();
    if (!isPath(path)) throw new PeerserverError('malformed', 'this is no path of a command');
    const parts = partsOf(args);
    if (this.#ended) throw gone();
    if (this.#pending.size >= MAX_PENDING) {
      throw new PeerserverError('full', `${MAX_PENDING} calls to this peer wait for their answers; wait for one`);
    }
    const pending = new Pending(++this.#lastId, credit, options.onProgress);
    this.#pending.set(pending.id, pending);
    const stop = this.#watch(pending, options);
    try {
      for (const [i, part] of parts.entries()) {
        const call = { id: pending.id, args: part, more: i < parts.length - 1, ...(i === 0 && { path, credit }) };
        await this.#unlessOver(pending, this.#send({ call }));
        if (pending.over) break; // and the reason is with it
      }
    } catch (err) {
      stop();
      throw err;
    }
    return { pending, stop };
  }

  /** Waits for a message to go out, or for the end of the call. */
  async #unlessOver(pending: Pending, sent: Promise<void>): Promise<void> {
    const state: { done?: true; failed?: { reason: unknown } } = {};
    void sent.catch((reason: unknown) => {
      state.failed = { reason };
    }).finally(() => {
      state.done = true;
      pending.news();
    });
    while (!state.done && !pending.over) await pending.changed();
    if (state.failed && !pending.over) throw state.failed.reason;
  }

  /** Ends the call with its signal or timeout. */
  #watch(pending: Pending, { signal, timeout }: CallOptions): () => void {
    const aborted = () => this.#reject(pending, signal?.reason);
    const timer = timeout === undefined || timeout === Infinity ? undefined : setTimeout(() => {
      this.#reject(pending, new DOMException(`no answer within ${timeout} ms`, 'TimeoutError'));
    }, timeout);
    signal?.addEventListener('abort', aborted);
    return () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', aborted);
      this.#reject(pending, undefined);
    };
  }

  async #next(pending: Pending): Promise<{ value: unknown } | undefined> {
    for (;;) {
      if (pending.values.length > 0) {
        const value = pending.values.shift();
        await this.#grant(pending);
        return { value };
      }
      if (pending.error) throw pending.error.reason;
      if (pending.over) return undefined;
      await pending.changed();
    }
  }

  /** Counts a value that was taken, and gives credit for more when that is worth a message. */
  async #grant(pending: Pending): Promise<void> {
    if (++pending.taken < WINDOW / 2 || pending.over) return;
    const values = pending.taken;
    pending.taken = 0;
    pending.credit += values;
    await this.#unlessOver(pending, this.#send({ callCredit: { id: pending.id, values } })).catch(() => {}); // the next value says why
  }

  /** Ends a call although the other side has not. It counts as pending until that is told. */
  #reject(pending: Pending, reason: unknown): void {
    if (pending.over) return;
    pending.values = [];
    pending.end({ reason });
    if (this.#ended) return;
    void this.#send({ callCancel: { id: pending.id } }).catch(() => {}).finally(() => this.#pending.delete(pending.id));
  }

  #finish(pending: Pending, error?: { reason: unknown }): void {
    this.#pending.delete(pending.id);
    if (!pending.over) pending.end(error);
  }

  valued(said: Of<typeof CallValue>): void {
    const pending = this.#of(said.id);
    if (!pending) return;
    try {
      const whole = pending.parts.add(said.value, said.more);
      if (!whole) return;
      if (said.last) {
        if (whole.value !== undefined) pending.values.push(whole.value);
        this.#finish(pending);
        return;
      }
      if (pending.credit-- === 0) throw new PeerserverError('malformed', 'the other side sends more values than it may');
      pending.values.push(whole.value);
      pending.news();
    } catch (err) {
      this.#reject(pending, err);
    }
  }

  progressed(said: Of<typeof CallProgress>): void {
    const pending = this.#of(said.id);
    if (!pending) return;
    let value: unknown;
    try {
      const size = Math.max(said.value?.json.at(-1)?.length ?? 0, said.value?.bytes.at(-1)?.length ?? 0);
      if (size > MAX_PART) throw new PeerserverError('too_large', `progress of ${size} bytes is over ${MAX_PART}`);
      value = new Parts().add(said.value, false)?.value;
    } catch (err) {
      this.#reject(pending, err);
      return;
    }
    try {
      pending.onProgress?.(value);
    } catch (err) {
      queueMicrotask(() => { throw err; });
    }
  }

  failed(said: Of<typeof CallError>): void {
    const pending = this.#of(said.id);
    if (pending) this.#finish(pending, { reason: remoteError(said) });
  }

  #of(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    return pending?.over ? undefined : pending;
  }

  /** The connection has ended. */
  end(): void {
    this.#ended = true;
    for (const pending of [...this.#pending.values()]) this.#finish(pending, { reason: gone() });
  }
}

export function gone(): PeerserverError {
  return new PeerserverError('node_gone', 'the connection has ended');
}
