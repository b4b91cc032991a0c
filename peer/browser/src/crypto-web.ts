// Cryptography by the browser itself.

import { Aes128Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core';
import { type Bytes, concat } from './bytes.ts';
import { PeerserverError } from './errors.ts';
import type { Identity, Primitives, SealKey } from './primitives.ts';

const ED25519 = 'Ed25519';

const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes128Gcm() });

function own({ key }: Identity | SealKey): CryptoKey {
  if (key instanceof Uint8Array) throw new PeerserverError('malformed', 'this key was made where there is no WebCrypto');
  return key;
}

const imported = (key: Uint8Array, name: string, use: KeyUsage) => crypto.subtle.importKey('raw', concat(key), name, false, [use]);

export const web: Primitives = {
  async sha256(bytes) {
    return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  },

  async hmac(key, bytes) {
    const own = await crypto.subtle.importKey('raw', concat(key), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
    return new Uint8Array(await crypto.subtle.sign('HMAC', own, bytes));
  },

  async hkdf(key, info, length) {
    const from = await imported(key, 'HKDF', 'deriveBits');
    return new Uint8Array(await crypto.subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info }, from, 8 * length));
  },

  async newIdentity() {
    const pair = (await crypto.subtle.generateKey(ED25519, false, ['sign', 'verify'])) as CryptoKeyPair;
    return { id: new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)), key: pair.privateKey };
  },

  async sign(identity, bytes) {
    return new Uint8Array(await crypto.subtle.sign(ED25519, own(identity), bytes));
  },

  async verify(key, signature, bytes) {
    try {
      return await crypto.subtle.verify(ED25519, await imported(key, ED25519, 'verify'), concat(signature), bytes);
    } catch {
      return false; // not a point of the curve
    }
  },

  async sealKey(raw) {
    // Only the private half is needed to open.
    if (raw) return { key: await suite.kem.deserializePrivateKey(concat(raw).buffer), seal: new Uint8Array(0) };
    const pair = await suite.kem.generateKeyPair();
    return { key: pair.privateKey, seal: new Uint8Array(await suite.kem.serializePublicKey(pair.publicKey)) };
  },

  async seal(to, info, aad, plain) {
    const recipientPublicKey = await suite.kem.deserializePublicKey(concat(to).buffer);
    const sender = await suite.createSenderContext({ recipientPublicKey, info: info.buffer });
    return { sealed: new Uint8Array(await sender.seal(concat(plain).buffer, aad.buffer)), enc: new Uint8Array(sender.enc) };
  },

  async open(key, enc, info, aad, sealed) {
    const recipient = await suite.createRecipientContext({ recipientKey: own(key), enc: concat(enc).buffer, info: info.buffer });
    return new Uint8Array(await recipient.open(concat(sealed).buffer, aad.buffer));
  },

  async encrypt(key, nonce, aad, plain) {
    return gcm('encrypt', key, nonce, aad, plain);
  },

  async decrypt(key, nonce, aad, sealed) {
    return gcm('decrypt', key, nonce, aad, sealed);
  },
};

async function gcm(what: 'encrypt' | 'decrypt', key: Uint8Array, nonce: Uint8Array, aad: Bytes, data: Uint8Array): Promise<Bytes> {
  const how = { name: 'AES-GCM', iv: concat(nonce), additionalData: aad };
  return new Uint8Array(await crypto.subtle[what](how, await imported(key, 'AES-GCM', what), concat(data)));
}
