// Calls between two peers, in both directions: asked.ts has those that this side makes, answers.ts those that it answers.

import { Answers } from './answers.ts';
import { Asked, type CallOptions, gone, type SendControl } from './asked.ts';
import type { Commands } from './commands.ts';
import type { Peer } from './peer.ts';
import type { Control, Of } from './wire.ts';

export class Calls {
  readonly #asked: Asked;
  readonly #answers: Answers;
  #ended = false;

  constructor(peer: Peer, commands: Commands, send: SendControl) {
    // What a handler still says goes nowhere: there may be another connection by then, and the ids are those of this one.
    const sendHere: SendControl = (control) => (this.#ended ? Promise.reject(gone()) : send(control));
    this.#asked = new Asked(sendHere);
    this.#answers = new Answers(peer, commands, sendHere);
  }

  call(path: string, args?: unknown, options: CallOptions = {}): Promise<unknown> {
    return this.#asked.call(path, args, options);
  }

  stream(path: string, args?: unknown, options: CallOptions = {}): AsyncIterableIterator<unknown> {
    return this.#asked.stream(path, args, options);
  }

  /** Gets what comes from the other side, in its order. Controls that are not of calls are none of its business. */
  take(said: Of<typeof Control>): void {
    if (said.call) this.#answers.called(said.call);
    else if (said.callCredit) this.#answers.credited(said.callCredit);
    else if (said.callCancel) this.#answers.cancelled(said.callCancel.id);
    else if (said.callValue) this.#asked.valued(said.callValue);
    else if (said.callProgress) this.#asked.progressed(said.callProgress);
    else if (said.callError) this.#asked.failed(said.callError);
  }

  /** The connection has ended: calls fail, and handlers are told by their signal. */
  end(): void {
    this.#ended = true;
    this.#asked.end();
    this.#answers.end();
  }
}

/** Whom a call of the room goes to: all, those of a name, some, or one. */
export type Target = '*' | { readonly name: string } | Iterable<Peer> | Peer;

/** What one of them answered. */
export type Outcome = { readonly value: unknown; readonly error?: undefined } | { readonly value?: undefined; readonly error: Error };

/** Calls all of them at once; one that fails does not keep the others from answering. */
export async function callEach(peers: Iterable<Peer>, call: (peer: Peer) => Promise<unknown>): Promise<Map<Peer, Outcome>> {
  const outcome = async (peer: Peer): Promise<[Peer, Outcome]> => {
    try {
      return [peer, { value: await call(peer) }];
    } catch (err) {
      return [peer, { error: err instanceof Error ? err : new Error(String(err)) }];
    }
  };
  return new Map(await Promise.all([...new Set(peers)].map(outcome)));
}
