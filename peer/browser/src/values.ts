// What goes to a command or comes from one: bytes as Uint8Array, nothing as undefined, and all else as JSON. What is long goes
// in parts.

import { type Bytes, concat } from './bytes.ts';
import type { Init } from './codec.ts';
import { PeerserverError } from './errors.ts';
import type { Of, Value } from './wire.ts';

/** The largest argument or value of a call, in bytes. */
export const MAX_VALUE = 1 << 20;
/** Of one part, of progress, and of what comes with an error. */
export const MAX_PART = 32 << 10;

type Wire = Of<typeof Value>;
type Part = Init<typeof Value.fields> | undefined;

/** The messages that a value takes, at least one. */
export function partsOf(value: unknown, most = MAX_VALUE): [Part, ...Part[]] {
  if (value === undefined) return [undefined];
  const bytes = bytesOf(value);
  const raw = bytes ?? encoded(value);
  if (raw.length > most) throw new PeerserverError('too_large', `a value of ${raw.length} bytes is over ${most}`);
  const part = (from: number): Part => {
    const some = raw.subarray(from, from + MAX_PART);
    return bytes ? { bytes: [some] } : { json: [some] };
  };
  const all: [Part, ...Part[]] = [part(0)];
  for (let at = MAX_PART; at < raw.length; at += MAX_PART) all.push(part(at));
  return all;
}

function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return ArrayBuffer.isView(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : undefined;
}

function encoded(value: unknown): Bytes {
  let text: string | undefined;
  try {
    text = JSON.stringify(value) as string | undefined;
  } catch {
    // A cycle, or a bigint.
  }
  if (text === undefined) throw new PeerserverError('malformed', 'this has no JSON');
  return new TextEncoder().encode(text);
}

/** Puts the parts of a value together. */
export class Parts {
  #kind: 'json' | 'bytes' | undefined;
  #all: Uint8Array[] = [];
  size = 0;

  /** Takes the next part; answers the value with the last one, and then begins anew. */
  add(part: Wire | undefined, more: boolean): { value: unknown } | undefined {
    const json = part?.json.at(-1);
    const bytes = json ? undefined : part?.bytes.at(-1);
    const kind = json ? 'json' : bytes ? 'bytes' : undefined;
    const first = this.#all.length === 0;
    if (first ? !kind && more : kind !== this.#kind) throw new PeerserverError('malformed', 'the parts of a value do not fit together');
    const some = json ?? bytes ?? new Uint8Array(0);
    this.#kind = kind;
    this.#all.push(some);
    this.size += some.length;
    if (this.size > MAX_VALUE) throw new PeerserverError('too_large', `a value is over ${MAX_VALUE} bytes`);
    if (more) return undefined;
    const whole = concat(...this.#all);
    this.#all = [];
    this.size = 0;
    return { value: kind === 'bytes' ? whole : kind ? decoded(whole) : undefined };
  }
}

function decoded(json: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json));
  } catch {
    throw new PeerserverError('malformed', 'what should be JSON is not');
  }
}
