// The commands of a room: what other peers may call.

import { PeerserverError } from './errors.ts';
import type { Peer } from './peer.ts';

const PATH = /^[A-Za-z0-9_.-]{1,128}$/;
const LIST = '__list_commands__';

/** What a handler knows besides its arguments. */
export interface Request {
  /** Who calls. */
  readonly peer: Peer;
  /** Is aborted when the caller gives up or goes. */
  readonly signal: AbortSignal;
  /** Tells the caller how far it is, in at most 32 KiB. */
  progress(value: unknown): Promise<void>;
  /** Gives the caller one value of a stream; resolves when it may have the next. Fails if the caller did not ask for a stream. */
  send(value: unknown): Promise<void>;
}

/**
 * Runs a command. What it returns is the answer: Uint8Array as bytes, undefined as nothing, all else as JSON. A RemoteError that
 * it throws goes as it is; of other errors the caller is told the message.
 */
export type Handler = (args: unknown, request: Request) => unknown;

/** What the other side answers instead of a value. A handler throws one to choose what its caller gets. */
export class RemoteError extends Error {
  override readonly name = 'RemoteError';
  /** For programs, at most 64 bytes: unknown_command, timeout, cancelled, busy, too_large, malformed, failed, or the app's own. */
  readonly code: string;
  /** The app's own, at most 32 KiB. */
  readonly data: unknown;

  constructor(code: string, message: string, data?: unknown) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

export function isPath(path: string): boolean {
  return PATH.test(path);
}

export function noCommand(path: string): RemoteError {
  return new RemoteError('unknown_command', `there is no command ${path}; ${LIST} tells which there are`);
}

/** The handlers of a room, by path. */
export class Commands {
  readonly #all: Map<string, Handler>;

  constructor(peers: () => readonly Peer[]) {
    this.#all = new Map<string, Handler>([
      ['__echo__', (args) => args],
      [LIST, () => [...this.#all.keys()].sort()],
      ['__peers__', () => peers().map(({ id, session, name, path }) => ({ id, session, name, path }))],
    ]);
  }

  /** Adds a handler, or those of an object as path.name; answers what removes them. */
  handle(path: string, handlers: Handler | { readonly [name: string]: unknown }): () => void {
    const added = new Map<string, Handler>();
    if (typeof handlers === 'function') added.set(path, handlers);
    else {
      for (const [name, one] of Object.entries(handlers)) {
        if (typeof one === 'function') added.set(`${path}.${name}`, (args, request): unknown => one.call(handlers, args, request));
      }
    }
    if (added.size === 0) throw new PeerserverError('malformed', `${path} has no handler`);
    for (const one of added.keys()) {
      if (!isPath(one)) {
        throw new PeerserverError('malformed', `a path is 1 to 128 of A-Z, a-z, 0-9, "_", "." and "-", not ${JSON.stringify(one)}`);
      }
      if (this.#all.has(one)) throw new PeerserverError('taken', `${one} has a handler; remove that first`);
    }
    for (const [one, handler] of added) this.#all.set(one, handler);
    return () => {
      for (const [one, handler] of added) if (this.#all.get(one) === handler) this.#all.delete(one);
    };
  }

  find(path: string): Handler | undefined {
    return this.#all.get(path);
  }
}
