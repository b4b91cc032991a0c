// The calls of one peer that are answered here.

import type { SendControl } from './asked.ts';
import { type Commands, type Handler, isPath, noCommand, RemoteError } from './commands.ts';
import { PeerserverError } from './errors.ts';
import { failureOf } from './failures.ts';
import type { Peer } from './peer.ts';
import { MAX_PART, Parts, partsOf } from './values.ts';
import type { Call, CallCredit, Of } from './wire.ts';

const MAX_RUNNING = 64; // calls of one peer; a further one is busy
const MAX_PENDING = 256; // calls of one peer that are done, but the answer did not go out
const MAX_ARGS = 16 << 20; // bytes of the arguments of those

class Answer {
  readonly id: number;
  readonly handler: Handler;
  readonly path: string;
  readonly streams: boolean;
  readonly args = new Parts();
  readonly stop = new AbortController();
  size = 0;
  running = false;
  credit: number;
  /** Values go one after the other, whose parts must not mix. */
  turn: Promise<void> = Promise.resolve();
  /** A value was not sent to its end. */
  torn = false;
  wake: (() => void) | undefined;

  constructor(call: Of<typeof Call>, handler: Handler) {
    this.id = call.id;
    this.path = call.path;
    this.handler = handler;
    this.credit = call.credit;
    this.streams = call.credit > 0;
  }
}

export class Answers {
  readonly #peer: Peer;
  readonly #commands: Commands;
  readonly #send: SendControl;
  readonly #all = new Map<number, Answer>();
  #newest = 0;
  #argBytes = 0;
  #answering = 0;
  #refusing = 0;
  #ended = false;

  constructor(peer: Peer, commands: Commands, send: SendControl) {
    this.#peer = peer;
    this.#commands = commands;
    this.#send = send;
  }

  called(said: Of<typeof Call>): void {
    if (this.#ended) return;
    const answer = this.#all.get(said.id) ?? this.#admit(said);
    if (!answer || answer.running) return; // an id that was used already
    const size = (said.args?.json.at(-1)?.length ?? 0) + (said.args?.bytes.at(-1)?.length ?? 0);
    answer.size += size;
    this.#argBytes += size;
    try {
      const whole = answer.args.add(said.args, said.more);
      if (this.#argBytes > MAX_ARGS) throw busy();
      if (!whole) return;
      answer.running = true;
      this.#answering++;
      void this.#run(answer, whole.value).finally(() => this.#answering--);
    } catch (err) {
      this.#release(answer);
      this.#refuse(answer.id, err);
    }
  }

  #admit(said: Of<typeof Call>): Answer | undefined {
    if (said.id <= this.#newest) return undefined;
    this.#newest = said.id;
    const handler = this.#commands.find(said.path);
    if (!isPath(said.path)) this.#refuse(said.id, new PeerserverError('malformed', 'this is no path of a command'));
    else if (!handler) this.#refuse(said.id, noCommand(said.path));
    else if (this.#all.size >= MAX_RUNNING || this.#answering >= MAX_PENDING) this.#refuse(said.id, busy());
    else {
      const answer = new Answer(said, handler);
      this.#all.set(said.id, answer);
      return answer;
    }
    return undefined;
  }

  /** Answers a call that does not run. One for whom as many as it may have wait already is told nothing. */
  #refuse(id: number, err: unknown): void {
    if (this.#refusing >= MAX_PENDING) return;
    this.#refusing++;
    void this.#send({ callError: failureOf(id, err) }).catch(() => {}).finally(() => this.#refusing--);
  }

  #release(answer: Answer): void {
    this.#all.delete(answer.id);
    this.#argBytes -= answer.size;
    answer.size = 0;
  }

  async #run(answer: Answer, args: unknown): Promise<void> {
    const { signal } = answer.stop;
    const result = await this.#handled(answer, args);
    this.#release(answer); // before its caller knows, and may call again
    if (!signal.aborted) answer.stop.abort(new DOMException('the call is over', 'AbortError'));
    await answer.turn;
    try {
      if (answer.torn && result.parts) throw new RemoteError('failed', 'a value was cut off');
      if (!result.parts) await this.#send({ callError: failureOf(answer.id, result.error) });
      else await this.#value(answer, result.parts, true);
    } catch (err) {
      await this.#send({ callError: failureOf(answer.id, err) }).catch(() => {});
    }
  }

  async #handled(answer: Answer, args: unknown): Promise<{ parts?: ReturnType<typeof partsOf>; error?: unknown }> {
    try {
      const value = await answer.handler(args, {
        peer: this.#peer,
        signal: answer.stop.signal,
        progress: (some) => quietly(this.#progress(answer, some)),
        send: (some) => quietly(this.#stream(answer, some)),
      });
      return { parts: partsOf(value) };
    } catch (error) {
      return { error };
    }
  }

  async #progress(answer: Answer, value: unknown): Promise<void> {
    answer.stop.signal.throwIfAborted();
    await this.#send({ callProgress: { id: answer.id, value: partsOf(value, MAX_PART)[0] } });
  }

  async #stream(answer: Answer, value: unknown): Promise<void> {
    const parts = partsOf(value);
    if (!answer.streams) throw new PeerserverError('malformed', `${answer.path} answers with a stream, and was called for one value`);
    const before = answer.turn;
    const mine = (async () => {
      await before;
      while (answer.credit === 0 && !answer.stop.signal.aborted) {
        await new Promise<void>((resolve) => {
          answer.wake = resolve;
        });
      }
      answer.stop.signal.throwIfAborted();
      answer.credit--;
      await this.#value(answer, parts, false);
    })();
    answer.turn = mine.catch(() => {});
    await mine;
  }

  async #value(answer: Answer, parts: ReturnType<typeof partsOf>, last: boolean): Promise<void> {
    for (const [i, value] of parts.entries()) {
      const more = i < parts.length - 1;
      try {
        if (!last) answer.stop.signal.throwIfAborted();
        await this.#send({ callValue: { id: answer.id, value, more, last: last && !more } });
      } catch (err) {
        answer.torn ||= i > 0;
        throw err;
      }
    }
  }

  credited(said: Of<typeof CallCredit>): void {
    const answer = this.#all.get(said.id);
    if (!answer) return;
    answer.credit = Math.min(answer.credit + said.values, 2 ** 32);
    this.#wake(answer);
  }

  cancelled(id: number): void {
    const answer = this.#all.get(id);
    if (!answer) return;
    if (answer.running) this.#abort(answer);
    else this.#release(answer);
  }

  #abort(answer: Answer): void {
    answer.stop.abort(new DOMException('the caller has given up', 'AbortError'));
    this.#wake(answer);
  }

  #wake(answer: Answer): void {
    answer.wake?.();
    answer.wake = undefined;
  }

  /** The connection has ended. */
  end(): void {
    this.#ended = true;
    for (const answer of this.#all.values()) this.#abort(answer);
    this.#all.clear();
  }
}

function busy(): RemoteError {
  return new RemoteError('busy', 'too many calls of yours are running here; again when one is done');
}

/** A handler that does not wait for this is told by its signal. */
function quietly(sent: Promise<void>): Promise<void> {
  sent.catch(() => {});
  return sent;
}
