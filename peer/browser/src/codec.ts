// Protobuf, as much of it as the native door needs: messages are described by a
// table of their fields, and the types follow from the table.

/** The kinds of a field. 64-bit numbers are bigints. */
interface Scalars {
  bytes: Uint8Array;
  string: string;
  uint32: number;
  uint64: bigint;
  int64: bigint;
  bool: boolean;
}

type Kind = keyof Scalars;

/** A field: its number, its kind or message, and whether it is a list. */
export type Field = readonly [number: number, kind: Kind | Message<Fields>, list?: 'list'];
export type Fields = { readonly [name: string]: Field };

type Single<K> = K extends Kind ? Scalars[K] : K extends Message<infer F> ? Value<F> : never;
type Optional<F extends Fields> = { [N in keyof F]: F[N][2] extends 'list' ? never : F[N][1] extends Kind ? never : N }[keyof F];

/** What a message is in TypeScript: messages within are there or not, all else has its default. */
export type Value<F extends Fields> = {
  [N in Exclude<keyof F, Optional<F>>]: F[N][2] extends 'list' ? Single<F[N][1]>[] : Single<F[N][1]>;
} & { [N in Optional<F>]?: Single<F[N][1]> };

/** The same for one who writes it: whatever is left out has its default. */
export type Init<F extends Fields> = {
  [N in keyof F]?: (F[N][1] extends Message<infer G> ? (F[N][2] extends 'list' ? Init<G>[] : Init<G>) : Value<F>[N & keyof Value<F>]) | undefined;
};

export class MalformedError extends Error {
  override readonly name = 'MalformedError';
}

/** One kind of message. */
export class Message<F extends Fields> {
  readonly fields: F;
  readonly #byNumber = new Map<number, [name: string, field: Field]>();

  constructor(fields: F) {
    this.fields = fields;
    for (const [name, field] of Object.entries(fields)) this.#byNumber.set(field[0], [name, field]);
  }

  encode(value: Init<F>): Uint8Array {
    const out = new Writer();
    const all = value as { readonly [name: string]: unknown };
    for (const [name, field] of Object.entries(this.fields)) {
      const v = all[name];
      if (v === undefined) continue;
      const list = field[2] === 'list' ? (v as readonly unknown[]) : [v];
      for (const one of list) writeField(out, field, one, field[2] === 'list');
    }
    return out.done();
  }

  decode(bytes: Uint8Array): Value<F> {
    const value: { [name: string]: unknown } = {};
    for (const [name, [, kind, list]] of Object.entries(this.fields)) {
      if (list === 'list') value[name] = [];
      else if (typeof kind === 'string') value[name] = DEFAULTS[kind]();
    }
    const input = new Reader(bytes);
    while (!input.end) {
      const tag = input.varint();
      const known = this.#byNumber.get(Number(tag >> 3n));
      const wire = Number(tag & 7n);
      if (!known || wire !== wireOf(known[1][1])) {
        input.skip(wire);
        continue;
      }
      const [name, field] = known;
      const one = readField(input, field[1]);
      if (field[2] === 'list') (value[name] as unknown[]).push(one);
      else value[name] = one;
    }
    return value as Value<F>;
  }
}

const DEFAULTS: { [K in Kind]: () => Scalars[K] } = {
  bytes: () => new Uint8Array(0),
  string: () => '',
  uint32: () => 0,
  uint64: () => 0n,
  int64: () => 0n,
  bool: () => false,
};

const VARINT = 0;
const BYTES = 2;

function wireOf(kind: Field[1]): number {
  return typeof kind !== 'string' || kind === 'bytes' || kind === 'string' ? BYTES : VARINT;
}

function writeField(out: Writer, [number, kind]: Field, value: unknown, inList: boolean): void {
  const tag = BigInt((number << 3) | wireOf(kind));
  if (typeof kind !== 'string') {
    out.varint(tag);
    out.bytes(kind.encode(value as Init<Fields>));
    return;
  }
  if (kind === 'bytes' || kind === 'string') {
    const raw = kind === 'bytes' ? (value as Uint8Array) : new TextEncoder().encode(value as string);
    if (raw.length === 0 && !inList) return;
    out.varint(tag);
    out.bytes(raw);
    return;
  }
  const n = BigInt.asUintN(64, BigInt(value as number | bigint | boolean));
  if (n === 0n && !inList) return;
  out.varint(tag);
  out.varint(n);
}

function readField(input: Reader, kind: Field[1]): unknown {
  if (typeof kind !== 'string') return kind.decode(input.bytes());
  switch (kind) {
    case 'bytes': return input.bytes().slice();
    case 'string': return utf8(input.bytes());
    case 'uint32': return Number(BigInt.asUintN(32, input.varint()));
    case 'uint64': return input.varint();
    case 'int64': return BigInt.asIntN(64, input.varint());
    case 'bool': return input.varint() !== 0n;
  }
}

function utf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new MalformedError('a string that is not UTF-8');
  }
}

class Writer {
  #buffer = new Uint8Array(256);
  #length = 0;

  #room(n: number): void {
    if (this.#length + n <= this.#buffer.length) return;
    const larger = new Uint8Array(Math.max(2 * this.#buffer.length, this.#length + n));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }

  varint(value: bigint): void {
    this.#room(10);
    let rest = value;
    for (; rest > 0x7fn; rest >>= 7n) this.#buffer[this.#length++] = Number(rest & 0x7fn) | 0x80;
    this.#buffer[this.#length++] = Number(rest);
  }

  bytes(value: Uint8Array): void {
    this.varint(BigInt(value.length));
    this.#room(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
  }

  done(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }
}

class Reader {
  readonly #input: Uint8Array;
  #at = 0;

  constructor(input: Uint8Array) {
    this.#input = input;
  }

  get end(): boolean {
    return this.#at >= this.#input.length;
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#input[this.#at++];
      if (byte === undefined) throw new MalformedError('a number is cut off');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new MalformedError('a number is too long');
  }

  bytes(): Uint8Array {
    const length = this.varint();
    if (length > BigInt(this.#input.length - this.#at)) throw new MalformedError('a field is cut off');
    const from = this.#at;
    this.#at += Number(length);
    return this.#input.subarray(from, this.#at);
  }

  skip(wire: number): void {
    switch (wire) {
      case VARINT: this.varint(); return;
      case BYTES: this.bytes(); return;
      case 1: this.#at += 8; break;
      case 5: this.#at += 4; break;
      default: throw new MalformedError(`a field of wire type ${wire}`);
    }
    if (this.#at > this.#input.length) throw new MalformedError('a field is cut off');
  }
}
