// What the protocol needs of cryptography, and who does it: WebCrypto, or where a page has none (plain http, on a LAN), a
// module of its own that comes from where this one came from.

import type { Bytes } from './bytes.ts';
import { web } from './crypto-web.ts';

/** A peer's key. Made by WebCrypto the private half never leaves it; elsewhere it is 32 bytes. */
export interface Identity {
  readonly id: Bytes; // the public key, 32 bytes
  readonly key: CryptoKey | Bytes;
}

/** The X25519 pair of one join. */
export interface SealKey {
  readonly key: CryptoKey | Bytes;
  readonly seal: Bytes; // the public half
}

export interface Primitives {
  sha256(bytes: Bytes): Promise<Bytes>;
  /** HMAC-SHA256. */
  hmac(key: Uint8Array, bytes: Bytes): Promise<Bytes>;
  /** HKDF-SHA256 without salt. */
  hkdf(key: Uint8Array, info: Bytes, length: number): Promise<Bytes>;
  /** Ed25519. */
  newIdentity(): Promise<Identity>;
  sign(identity: Identity, bytes: Bytes): Promise<Bytes>;
  verify(key: Uint8Array, signature: Uint8Array, bytes: Bytes): Promise<boolean>;
  /** A new pair, or that of a private key. */
  sealKey(raw?: Uint8Array): Promise<SealKey>;
  /** HPKE in base mode: DHKEM X25519 HKDF-SHA256, HKDF-SHA256, AES-128-GCM. */
  seal(to: Uint8Array, info: Bytes, aad: Bytes, plain: Uint8Array): Promise<{ enc: Bytes; sealed: Bytes }>;
  open(key: SealKey, enc: Uint8Array, info: Bytes, aad: Bytes, sealed: Uint8Array): Promise<Bytes>;
  /** AES-128-GCM. */
  encrypt(key: Uint8Array, nonce: Uint8Array, aad: Bytes, plain: Uint8Array): Promise<Bytes>;
  decrypt(key: Uint8Array, nonce: Uint8Array, aad: Bytes, sealed: Uint8Array): Promise<Bytes>;
}

let chosen: Promise<Primitives> | undefined;

/** Those of this page. */
export function primitives(): Promise<Primitives> {
  // The types say that there always is one; pages of plain http have none.
  chosen ??= (crypto.subtle as SubtleCrypto | undefined) ? Promise.resolve(web) : import('./crypto-plain.ts').then((m) => m.plain);
  return chosen;
}

/** Used by tests. */
export function usePrimitives(these: Primitives): void {
  chosen = Promise.resolve(these);
}
