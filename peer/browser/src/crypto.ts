// Keys, presences and envelopes, on WebCrypto. protocol/peer.go is the same in Go; both pass protocol/vectors.

import { Aes128Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core';
import { ascii, type Bytes, concat, equal } from './bytes.ts';
import type { Message, Fields, Value } from './codec.ts';
import { PeerserverError } from './errors.ts';
import { type Challenge, Envelope, EnvelopeBody, Login, type Of, PresenceBody, SignedPresence } from './wire.ts';

const ED25519 = 'Ed25519';
const LIMITS = { blob: 2048, name: 64, services: 16, metadata: 1024, ttl: 86_400, payload: 56 << 10, url: 256, nonce: 16 };

const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes128Gcm() });

/** The first 20 bytes of a hash over door and name; keyed by the secret when there is one. */
export async function appId(name: string, secret: Uint8Array = new Uint8Array(0), door = 'peer'): Promise<Bytes> {
  const input = concat(ascii(`peerserver/1/app${door}\0`), new TextEncoder().encode(name));
  if (secret.length === 0) return new Uint8Array(await crypto.subtle.digest('SHA-256', input)).slice(0, 20);
  const key = await crypto.subtle.importKey('raw', concat(secret), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', key, input)).slice(0, 20);
}

/** What an app's secret adds to each seal: zeros when it has none. */
export async function sealSecret(app: Uint8Array, secret: Uint8Array): Promise<Bytes> {
  if (secret.length === 0) return new Uint8Array(32);
  const key = await crypto.subtle.importKey('raw', concat(secret), 'HKDF', false, ['deriveBits']);
  const info = concat(ascii('peerserver/1/secret'), app);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info }, key, 256));
}

/** A peer's key. The private half never leaves WebCrypto. */
export interface Identity {
  readonly id: Bytes; // the public key, 32 bytes
  readonly key: CryptoKey;
}

export async function newIdentity(): Promise<Identity> {
  const pair = (await crypto.subtle.generateKey(ED25519, false, ['sign', 'verify'])) as CryptoKeyPair;
  return { id: new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)), key: pair.privateKey };
}

async function sign(identity: Identity, bytes: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.sign(ED25519, identity.key, bytes));
}

async function verifies(key: Uint8Array, signature: Uint8Array, bytes: Bytes): Promise<boolean> {
  if (key.length !== 32 || signature.length !== 64) return false;
  try {
    const imported = await crypto.subtle.importKey('raw', concat(key), ED25519, false, ['verify']);
    return await crypto.subtle.verify(ED25519, imported, concat(signature), bytes);
  } catch {
    return false; // not a point of the curve
  }
}

function loginBytes(challenge: Of<typeof Challenge>, nonce: Uint8Array, url: string): Bytes {
  return concat(ascii('peerserver/1/login'), challenge.nonce, challenge.node, nonce, new TextEncoder().encode(url));
}

/** Signs a login for one node and one connection. */
export async function signLogin(identity: Identity, challenge: Of<typeof Challenge>, url: string): Promise<Of<typeof Login>> {
  const nonce = crypto.getRandomValues(new Uint8Array(LIMITS.nonce));
  return { key: identity.id, url, nonce, signature: await sign(identity, loginBytes(challenge, nonce, url)) };
}

/** What a node does with it; here for the vectors, and for peers that serve. */
export async function verifyLogin(login: Of<typeof Login>, challenge: Of<typeof Challenge>): Promise<void> {
  if (login.key.length !== 32 || login.nonce.length !== LIMITS.nonce || new TextEncoder().encode(login.url).length > LIMITS.url) {
    throw new PeerserverError('malformed', 'login: key, nonce or URL have a wrong size');
  }
  if (!(await verifies(login.key, login.signature, loginBytes(challenge, login.nonce, login.url)))) {
    throw new PeerserverError('signature', 'login: the signature does not verify for this node and connection');
  }
}

/** A presence that has been verified. */
export interface Presence {
  readonly member: Bytes; // id and session, 40 bytes
  readonly seal: Uint8Array;
  readonly name: string;
  readonly services: readonly string[];
  readonly metadata: Uint8Array;
  readonly signed: Of<typeof SignedPresence>;
}

export interface Announced {
  readonly session: Uint8Array;
  readonly seal: Uint8Array;
  readonly name?: string;
  readonly services?: readonly string[];
  readonly metadata?: Uint8Array;
  readonly ttl?: number; // seconds
}

export async function signPresence(identity: Identity, app: Uint8Array, said: Announced): Promise<Presence> {
  const body = PresenceBody.encode({
    app, session: said.session, seal: said.seal, issued: BigInt(Date.now()), ttl: said.ttl ?? LIMITS.ttl,
    name: said.name, services: said.services && [...said.services], metadata: said.metadata,
  });
  const signature = await sign(identity, concat(ascii('peerserver/1/presence'), body));
  return verifyPresence({ key: identity.id, body, signature }, app);
}

/** Checks a presence for an app: sizes first, the signature last. */
export async function verifyPresence(signed: Of<typeof SignedPresence>, app: Uint8Array): Promise<Presence> {
  const refuse = (code: 'malformed' | 'denied' | 'too_large' | 'signature', why: string): never => {
    throw new PeerserverError(code, `presence: ${why}`);
  };
  if (signed.key.length !== 32 || signed.body.length + signed.signature.length + signed.key.length + 16 > LIMITS.blob) {
    refuse('malformed', `no key of 32 bytes, or over ${LIMITS.blob} bytes`);
  }
  const body = parsed(PresenceBody, signed.body) ?? refuse('malformed', 'the body does not parse');
  if (body.session.length !== 8 || body.seal.length !== 32) refuse('malformed', 'the body does not parse');
  if (!equal(body.app, app)) refuse('denied', 'it is for another app');
  const long = (text: string) => new TextEncoder().encode(text).length > LIMITS.name;
  if (body.services.length > LIMITS.services || body.metadata.length > LIMITS.metadata || long(body.name) || body.services.some(long)) {
    refuse('too_large', 'name, services or metadata are over their limits');
  }
  if (body.ttl === 0 || body.ttl > LIMITS.ttl || body.issued <= 0n) refuse('malformed', 'it has to last up to a day');
  if (!(await verifies(signed.key, signed.signature, concat(ascii('peerserver/1/presence'), signed.body)))) {
    refuse('signature', 'the signature does not verify');
  }
  return { member: concat(signed.key, body.session), seal: body.seal, name: body.name, services: body.services, metadata: body.metadata, signed };
}

/** The X25519 pair of one join. */
export interface SealKey {
  readonly pair: CryptoKeyPair;
  readonly seal: Bytes; // the public half
}

/** A new pair, or that of a private key. */
export async function sealKey(raw?: Uint8Array): Promise<SealKey> {
  const privateKey = raw && (await suite.kem.deserializePrivateKey(concat(raw).buffer));
  if (!privateKey) {
    const pair = await suite.kem.generateKeyPair();
    return { pair, seal: new Uint8Array(await suite.kem.serializePublicKey(pair.publicKey)) };
  }
  // Only the private half is needed to open.
  return { pair: { privateKey, publicKey: privateKey }, seal: new Uint8Array(0) };
}

/** What an envelope says on its outside. */
export interface Header {
  readonly app: Uint8Array;
  readonly from: Uint8Array; // id and session
  readonly to: Uint8Array;
  readonly sequence: bigint; // from 1, for each pair of members
  readonly kind: number; // of Kind
}

const info = (h: Header, secret: Uint8Array) => concat(ascii('peerserver/1/seal'), h.app, h.from, h.to, secret).buffer;

function additional(h: Header): ArrayBuffer {
  const out = new DataView(new ArrayBuffer(9));
  out.setBigUint64(0, h.sequence);
  out.setUint8(8, h.kind);
  return out.buffer;
}

/** Makes an envelope that only the holder of `seal`'s private half can open. */
export async function sealEnvelope(identity: Identity, h: Header, seal: Uint8Array, secret: Uint8Array, plain: Uint8Array): Promise<Of<typeof Envelope>> {
  const recipientPublicKey = await suite.kem.deserializePublicKey(concat(seal).buffer);
  const sender = await suite.createSenderContext({ recipientPublicKey, info: info(h, secret) });
  const sealed = new Uint8Array(await sender.seal(concat(plain).buffer, additional(h)));
  const body = EnvelopeBody.encode({ ...h, enc: new Uint8Array(sender.enc), sealed });
  return { body, signature: await sign(identity, concat(ascii('peerserver/1/envelope'), body)) };
}

/** Checks and opens an envelope. That no sequence is taken twice is for a Window of the pair. */
export async function openEnvelope(
  envelope: Of<typeof Envelope>, app: Uint8Array, to: Uint8Array, key: SealKey, secret: Uint8Array,
): Promise<{ header: Header; plain: Uint8Array }> {
  const body = envelope.body.length > LIMITS.payload ? undefined : parsed(EnvelopeBody, envelope.body);
  if (!body || body.sequence === 0n || body.from.length !== 40) {
    throw new PeerserverError('malformed', 'envelope: it does not parse');
  }
  if (!equal(body.app, app) || !equal(body.to, to)) {
    throw new PeerserverError('denied', 'envelope: it is for another app or member');
  }
  if (!(await verifies(body.from.slice(0, 32), envelope.signature, concat(ascii('peerserver/1/envelope'), envelope.body)))) {
    throw new PeerserverError('signature', 'envelope: the signature does not verify');
  }
  if (body.enc.length !== 32) throw new PeerserverError('malformed', 'envelope: it has no key');
  const header: Header = { app, from: body.from, to, sequence: body.sequence, kind: body.kind };
  try {
    const context = { recipientKey: key.pair.privateKey, enc: concat(body.enc).buffer, info: info(header, secret) };
    const recipient = await suite.createRecipientContext(context);
    return { header, plain: new Uint8Array(await recipient.open(concat(body.sealed).buffer, additional(header))) };
  } catch {
    throw new PeerserverError('signature', 'envelope: it was not sealed for this member, or with another secret');
  }
}

function parsed<F extends Fields>(message: Message<F>, bytes: Uint8Array): Value<F> | undefined {
  try {
    return message.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Takes each sequence of a pair once: signals may come by several ways, out of order by less than 64. */
export class Window {
  #top = 0n;
  #seen = 0n; // bit n: top - n was taken

  take(sequence: bigint): void {
    if (sequence > this.#top) {
      this.#seen = BigInt.asUintN(64, sequence - this.#top < 64n ? (this.#seen << (sequence - this.#top)) | 1n : 1n);
      this.#top = sequence;
      return;
    }
    const bit = 1n << (this.#top - sequence < 64n ? this.#top - sequence : 64n);
    if (bit === 1n << 64n) throw new PeerserverError('stale', 'envelope: it comes long after later ones');
    if ((this.#seen & bit) !== 0n) throw new PeerserverError('expired', 'envelope: it was taken before');
    this.#seen |= bit;
  }
}
