// Cryptography for pages that the browser gives none, which are those of plain http: the same, and slower, and with keys that
// scripts of the page can read. It is a module of its own, sdk-plain.js, that is loaded only there.

import { gcm } from '@noble/ciphers/aes.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { expand, extract, hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { ascii, type Bytes, concat } from './bytes.ts';
import { PeerserverError } from './errors.ts';
import type { Identity, Primitives, SealKey } from './primitives.ts';

const NONE = new Uint8Array(0);

function own({ key }: Identity | SealKey): Bytes {
  if (!(key instanceof Uint8Array)) throw new PeerserverError('malformed', 'this key was made by WebCrypto, which there is none of');
  return key;
}

export const plain: Primitives = {
  async sha256(bytes) {
    return concat(sha256(bytes));
  },

  async hmac(key, bytes) {
    return concat(hmac(sha256, key, bytes));
  },

  async hkdf(key, info, length) {
    return concat(hkdf(sha256, key, NONE, info, length));
  },

  async newIdentity() {
    const { secretKey, publicKey } = ed25519.keygen();
    return { id: concat(publicKey), key: concat(secretKey) };
  },

  async sign(identity, bytes) {
    return concat(ed25519.sign(bytes, own(identity)));
  },

  async verify(key, signature, bytes) {
    try {
      return ed25519.verify(signature, bytes, key, { zip215: false });
    } catch {
      return false; // not a point of the curve
    }
  },

  async sealKey(raw) {
    const key = concat(raw ?? x25519.utils.randomSecretKey());
    return { key, seal: concat(x25519.getPublicKey(key)) };
  },

  async seal(to, info, aad, data) {
    const { secretKey, publicKey } = x25519.keygen();
    const { key, nonce } = schedule(x25519.getSharedSecret(secretKey, to), concat(publicKey, to), info);
    return { enc: concat(publicKey), sealed: concat(gcm(key, nonce, aad).encrypt(data)) };
  },

  async open(sealKey, enc, info, aad, sealed) {
    const secret = own(sealKey);
    const { key, nonce } = schedule(x25519.getSharedSecret(secret, enc), concat(enc, x25519.getPublicKey(secret)), info);
    return concat(gcm(key, nonce, aad).decrypt(sealed));
  },

  async encrypt(key, nonce, aad, data) {
    return concat(gcm(key, nonce, aad).encrypt(data));
  },

  async decrypt(key, nonce, aad, sealed) {
    return concat(gcm(key, nonce, aad).decrypt(sealed));
  },
};

// HPKE in base mode, RFC 9180, with DHKEM X25519 HKDF-SHA256 (4.1), HKDF-SHA256 and AES-128-GCM, for one message.

const KEM = concat(ascii('KEM'), Uint8Array.of(0, 0x20));
const SUITE = concat(ascii('HPKE'), Uint8Array.of(0, 0x20, 0, 1, 0, 1));

function labeledExtract(suite: Bytes, salt: Uint8Array, label: string, ikm: Uint8Array): Uint8Array {
  return extract(sha256, concat(ascii('HPKE-v1'), suite, ascii(label), ikm), salt);
}

function labeledExpand(suite: Bytes, prk: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array {
  return expand(sha256, prk, concat(Uint8Array.of(0, length), ascii('HPKE-v1'), suite, ascii(label), info), length);
}

/** ExtractAndExpand (4.1), then KeySchedule (5.1) without a PSK; the nonce is that of sequence 0. */
function schedule(dh: Uint8Array, kemContext: Uint8Array, info: Uint8Array): { key: Uint8Array; nonce: Uint8Array } {
  const shared = labeledExpand(KEM, labeledExtract(KEM, NONE, 'eae_prk', dh), 'shared_secret', kemContext, 32);
  const context = concat(Uint8Array.of(0), labeledExtract(SUITE, NONE, 'psk_id_hash', NONE), labeledExtract(SUITE, NONE, 'info_hash', info));
  const secret = labeledExtract(SUITE, shared, 'secret', NONE);
  return { key: labeledExpand(SUITE, secret, 'key', context, 16), nonce: labeledExpand(SUITE, secret, 'base_nonce', context, 12) };
}
