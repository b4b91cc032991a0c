// Presences, logins, envelopes and broadcasts. protocol/peer.go is the same in Go; both pass protocol/vectors.

import { ascii, type Bytes, concat, equal } from './bytes.ts';
import type { Fields, Message, Value } from './codec.ts';
import { PeerserverError } from './errors.ts';
import { type Identity, primitives, type SealKey } from './primitives.ts';
import { type Challenge, Envelope, EnvelopeBody, Kind, Login, type Of, PresenceBody, SignedPresence, type Welcome } from './wire.ts';

const LIMITS = { blob: 2048, name: 64, services: 16, metadata: 1024, ttl: 86_400, payload: 56 << 10, url: 256, nonce: 16 };
const NONCE = 12; // of a broadcast

/** The first 20 bytes of a hash over door and name; keyed by the secret when there is one. */
export async function appId(name: string, secret: Uint8Array = new Uint8Array(0), door = 'peer'): Promise<Bytes> {
  const input = concat(ascii(`peerserver/1/app${door}\0`), new TextEncoder().encode(name));
  const p = await primitives();
  return (await (secret.length === 0 ? p.sha256(input) : p.hmac(secret, input))).slice(0, 20);
}

/** What an app's secret adds to each seal: zeros when it has none. */
export async function sealSecret(app: Uint8Array, secret: Uint8Array): Promise<Bytes> {
  if (secret.length === 0) return new Uint8Array(32);
  return (await primitives()).hkdf(secret, concat(ascii('peerserver/1/secret'), app), 32);
}

/** What broadcasts of an app are sealed with: whoever knows the secret, or the name when there is none, can read them. */
export async function broadcastKey(app: Uint8Array, name: string, secret: Uint8Array): Promise<Bytes> {
  const from = secret.length === 0 ? new TextEncoder().encode(name) : secret;
  return (await primitives()).hkdf(from, concat(ascii('peerserver/1/broadcast'), app), 16);
}

export async function newIdentity(): Promise<Identity> {
  return (await primitives()).newIdentity();
}

async function sign(identity: Identity, bytes: Bytes): Promise<Bytes> {
  return (await primitives()).sign(identity, bytes);
}

async function verifies(key: Uint8Array, signature: Uint8Array, bytes: Bytes): Promise<boolean> {
  if (key.length !== 32 || signature.length !== 64) return false;
  return (await primitives()).verify(key, signature, bytes);
}

function loginBytes(challenge: Of<typeof Challenge>, nonce: Uint8Array, url: string): Bytes {
  return concat(ascii('peerserver/1/login'), challenge.nonce, challenge.node, nonce, new TextEncoder().encode(url));
}

/** Signs a login for one node and one connection. */
export async function signLogin(identity: Identity, challenge: Of<typeof Challenge>, url: string): Promise<Of<typeof Login>> {
  const nonce = crypto.getRandomValues(new Uint8Array(LIMITS.nonce));
  return { key: identity.id, url, nonce, signature: await sign(identity, loginBytes(challenge, nonce, url)) };
}

/** Checks that the node is the one that its challenge named. */
export async function verifyWelcome(welcome: Of<typeof Welcome>, challenge: Of<typeof Challenge>, login: Of<typeof Login>): Promise<void> {
  if (challenge.node.length !== 32 || challenge.nonce.length !== 32) {
    throw new PeerserverError('malformed', 'welcome: the challenge has no node of 32 bytes and no nonce of 32');
  }
  if (!(await verifies(challenge.node, welcome.signature, concat(ascii('peerserver/1/welcome'), challenge.nonce, login.key, login.nonce)))) {
    throw new PeerserverError('signature', 'welcome: the node is not the one that it says it is');
  }
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
  readonly issued: bigint; // unix ms; only the order of two of one session counts
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
  const { seal, issued, name, services, metadata } = body;
  return { member: concat(signed.key, body.session), seal, issued, name, services, metadata, signed };
}

export type { Identity, SealKey };

/** A new pair, or that of a private key. */
export async function sealKey(raw?: Uint8Array): Promise<SealKey> {
  return (await primitives()).sealKey(raw);
}

/** What an envelope says on its outside. */
export interface Header {
  readonly app: Uint8Array;
  readonly from: Uint8Array; // id and session
  readonly to: Uint8Array;
  readonly sequence: bigint; // from 1, for each pair of members
  readonly kind: number; // of Kind
}

const info = (h: Header, secret: Uint8Array) => concat(ascii('peerserver/1/seal'), h.app, h.from, h.to, secret);

function additional(h: Header): Bytes {
  const out = new DataView(new ArrayBuffer(9));
  out.setBigUint64(0, h.sequence);
  out.setUint8(8, h.kind);
  return new Uint8Array(out.buffer);
}

async function signed(identity: Identity, said: Parameters<typeof EnvelopeBody.encode>[0]): Promise<Of<typeof Envelope>> {
  const body = EnvelopeBody.encode(said);
  return { body, signature: await sign(identity, concat(ascii('peerserver/1/envelope'), body)) };
}

/** Makes an envelope that only the holder of `seal`'s private half can open. */
export async function sealEnvelope(identity: Identity, h: Header, seal: Uint8Array, secret: Uint8Array, plain: Uint8Array): Promise<Of<typeof Envelope>> {
  return signed(identity, { ...h, ...(await (await primitives()).seal(seal, info(h, secret), additional(h), plain)) });
}

/** Makes an envelope for all members of an app. Its sequences are of the sender's broadcasts alone. */
export async function sealBroadcast(identity: Identity, app: Uint8Array, from: Uint8Array, sequence: bigint, key: Uint8Array, plain: Uint8Array): Promise<Of<typeof Envelope>> {
  const h: Header = { app, from, to: new Uint8Array(0), sequence, kind: Kind.broadcast };
  const enc = crypto.getRandomValues(new Uint8Array(NONCE));
  const sealed = await (await primitives()).encrypt(key, enc, concat(from, additional(h)), plain);
  return signed(identity, { ...h, enc, sealed });
}

/** What comes out of an envelope. */
export interface Opened {
  readonly header: Header;
  readonly plain: Uint8Array;
}

/** Checks and opens an envelope. That no sequence is taken twice is for a Window of the pair. */
export async function openEnvelope(
  envelope: Of<typeof Envelope>, app: Uint8Array, to: Uint8Array, key: SealKey, secret: Uint8Array,
): Promise<Opened> {
  const body = outside(envelope);
  if (!equal(body.app, app) || !equal(body.to, to) || body.kind === Kind.broadcast) {
    throw new PeerserverError('denied', 'envelope: it is for another app or member');
  }
  await verifyEnvelope(envelope, body);
  if (body.enc.length !== 32) throw new PeerserverError('malformed', 'envelope: it has no key');
  const header: Header = { app, from: body.from, to, sequence: body.sequence, kind: body.kind };
  try {
    return { header, plain: await (await primitives()).open(key, body.enc, info(header, secret), additional(header), body.sealed) };
  } catch {
    throw new PeerserverError('signature', 'envelope: it was not sealed for this member, or with another secret');
  }
}

/** Checks and opens a broadcast. That no sequence is taken twice is for a Window of the sender's broadcasts. */
export async function openBroadcast(envelope: Of<typeof Envelope>, app: Uint8Array, key: Uint8Array): Promise<Opened> {
  const body = outside(envelope);
  if (!equal(body.app, app) || body.to.length !== 0 || body.kind !== Kind.broadcast) {
    throw new PeerserverError('denied', 'broadcast: it is for another app, or for one member');
  }
  await verifyEnvelope(envelope, body);
  if (body.enc.length !== NONCE) throw new PeerserverError('malformed', `broadcast: its nonce has not ${NONCE} bytes`);
  const header: Header = { app, from: body.from, to: body.to, sequence: body.sequence, kind: body.kind };
  try {
    return { header, plain: await (await primitives()).decrypt(key, body.enc, concat(body.from, additional(header)), body.sealed) };
  } catch {
    throw new PeerserverError('signature', 'broadcast: it was sealed for another app, or with another secret');
  }
}

/** What an envelope says, of which nothing is checked yet. */
function outside(envelope: Of<typeof Envelope>): Of<typeof EnvelopeBody> {
  const body = envelope.body.length > LIMITS.payload ? undefined : parsed(EnvelopeBody, envelope.body);
  if (!body || body.sequence === 0n || body.from.length !== 40) throw new PeerserverError('malformed', 'envelope: it does not parse');
  return body;
}

async function verifyEnvelope(envelope: Of<typeof Envelope>, body: Of<typeof EnvelopeBody>): Promise<void> {
  if (await verifies(body.from.slice(0, 32), envelope.signature, concat(ascii('peerserver/1/envelope'), envelope.body))) return;
  throw new PeerserverError('signature', 'envelope: the signature does not verify');
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
