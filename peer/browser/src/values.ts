// What goes to a command or comes from one: bytes as Uint8Array, nothing as undefined, and all else as JSON. What is long goes
// in parts.

import type { Bytes } from './bytes.ts';
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

/** Puts the parts of a value together. They are copied, so that many small ones take no more than a large one. */
export class Parts {
  #kind: 'json' | 'bytes' | undefined;
  #some = false;
  #buffer = new Uint8Array(0);
  #size = 0;

  /** Takes the next part; answers the value with the last one, and then begins anew. */
  add(part: Wire | undefined, more: boolean): { value: unknown } | undefined {
    const json = part?.json.at(-1);
    const bytes = json ? undefined : part?.bytes.at(-1);
    const kind = json ? 'json' : bytes ? 'bytes' : undefined;
    if (this.#some ? !kind || kind !== this.#kind : !kind && more) {
      throw new PeerserverError('malformed', 'the parts of a value do not fit together');
    }
    this.#kind = kind;
    this.#some = true;
    this.#append(json ?? bytes ?? new Uint8Array(0));
    if (more) return undefined;
    const whole = this.#buffer.slice(0, this.#size);
    this.#buffer = new Uint8Array(0);
    this.#size = 0;
    this.#some = false;
    return { value: kind === 'bytes' ? whole : kind ? decoded(whole) : undefined };
  }

  #append(part: Uint8Array): void {
    const size = this.#size + part.length;
    if (size > MAX_VALUE) throw new PeerserverError('too_large', `a value is over ${MAX_VALUE} bytes`);
    if (size > this.#buffer.length) {
      const larger = new Uint8Array(Math.min(MAX_VALUE, Math.max(size, 2 * this.#buffer.length)));
      larger.set(this.#buffer.subarray(0, this.#size));
      this.#buffer = larger;
    }
    this.#buffer.set(part, this.#size);
    this.#size = size;
  }
}

function decoded(json: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json));
  } catch {
    throw new PeerserverError('malformed', 'what should be JSON is not');
  }
}
