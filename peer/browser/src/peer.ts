// One other member of a room: the negotiation with it, and its connection.

import { type Bytes, compare, printed } from './bytes.ts';
import { type Header, type Presence, Window } from './crypto.ts';
import { Events } from './events.ts';
import { PeerserverError } from './errors.ts';
import { Kind } from './wire.ts';

const MAIN = 'peerserver'; // the channel of send, id 0 on both sides
const OFFERED_WITHIN = 5000; // by those who are there, to one who joins
const OPEN_WITHIN = 15_000; // from offer and answer
const GONE_WITHIN = 1000; // after a goodbye
const MAX_TRIES = 5;
const MAX_CANDIDATES = 128;
const FULL = 1 << 20; // bytes that wait in a channel before send waits
const MAX_MESSAGE = (64 << 10) - 1; // what pion and every browser take in one message

/** What a peer needs of its room. */
export interface Signals {
  readonly member: Uint8Array;
  readonly rtc: typeof RTCPeerConnection;
  readonly configuration: RTCConfiguration;
  send(to: Peer, kind: number, sequence: bigint, plain: Uint8Array): Promise<void>;
  opened(peer: Peer): void;
  message(peer: Peer, data: Bytes): void;
  ended(peer: Peer, opened: boolean): void;
}

interface Description {
  type: 'offer' | 'answer';
  sdp: string;
  re?: number; // sequence of the offer that an answer is to
}

/** A connection, from its first description to its end. */
interface Attempt {
  readonly pc: RTCPeerConnection;
  readonly channel: RTCDataChannel;
  offer: bigint; // sequence of our offer, 0: the other side made it
  remote: boolean;
  open: boolean;
  early: RTCIceCandidateInit[];
}

/**
 * Another member of the room: one session of one key.
 *
 * Events: `channel` for a data channel that it opened, `closed` when the connection has ended.
 */
export class Peer extends Events<{ channel: [channel: RTCDataChannel]; closed: [] }> {
  /** Its id, in z-base-32: the same for all sessions of one key. */
  readonly id: string;
  /** Tells apart the sessions of one key: tabs, devices, joins. */
  readonly session: string;
  /** Used by the room. */
  presence: Presence;
  readonly window = new Window();
  /** The node says that it is there. */
  shown = true;

  readonly #room: Signals;
  readonly #lower: boolean; // our offer stands when two cross
  #sequence = 0n;
  #attempt: Attempt | undefined;
  #tries = 0;
  #due: ReturnType<typeof setTimeout> | undefined;
  #turn: Promise<void> = Promise.resolve(); // signals are taken one after the other
  #waiting = 0;
  #candidates: RTCIceCandidateInit[] = [];

  constructor(room: Signals, presence: Presence) {
    super();
    this.#room = room;
    this.presence = presence;
    this.id = printed(presence.member.subarray(0, 32));
    this.session = Array.from(presence.member.subarray(32), (b) => b.toString(16).padStart(2, '0')).join('');
    this.#lower = compare(room.member, presence.member) < 0;
  }

  get name(): string {
    return this.presence.name;
  }

  get metadata(): Uint8Array {
    return this.presence.metadata;
  }

  /** The browser's own connection, for media and statistics; undefined while there is none. */
  get connection(): RTCPeerConnection | undefined {
    return this.#attempt?.pc;
  }

  get open(): boolean {
    return this.#attempt?.open ?? false;
  }

  /** Sends bytes or text, in order. Resolves when there is room for more, so that waiting for it bounds memory. */
  async send(data: Uint8Array | string): Promise<void> {
    const channel = this.#attempt?.channel;
    if (channel?.readyState !== 'open') throw new PeerserverError('unknown_peer', `${this.id.slice(0, 8)} is not connected`);
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
    if (bytes.length > MAX_MESSAGE) throw new PeerserverError('too_large', `a message has at most ${MAX_MESSAGE} bytes`);
    channel.send(bytes);
    if (channel.bufferedAmount < FULL) return;
    await new Promise<void>((resolve, reject) => {
      const closed = () => reject(new PeerserverError('node_gone', 'the connection has ended'));
      channel.addEventListener('bufferedamountlow', () => {
        channel.removeEventListener('close', closed);
        resolve();
      }, { once: true });
      channel.addEventListener('close', closed, { once: true });
    });
  }

  /** Opens a further channel to it. */
  channel(label: string, options?: RTCDataChannelInit): RTCDataChannel {
    if (!this.#attempt?.open) throw new PeerserverError('unknown_peer', `${this.id.slice(0, 8)} is not connected`);
    return this.#attempt.pc.createDataChannel(label, options);
  }

  /** Used by the room: makes an offer now, or waits for that of the other side. */
  meet(offers: boolean): void {
    if (this.#attempt) return;
    this.#tries = 0;
    if (offers) this.#offer();
    else this.#expect(OFFERED_WITHIN);
  }

  /** Used by the room: takes what was in an envelope. */
  take(header: Header, plain: Uint8Array): void {
    if (this.#waiting >= MAX_CANDIDATES) return;
    this.#waiting++;
    this.#turn = this.#turn.then(() => this.#signalled(header, plain)).catch(() => this.#failed()).finally(() => void this.#waiting--);
  }

  /** Used by the room: ends the connection; `goodbye` tells the other side. */
  close(goodbye: boolean): void {
    clearTimeout(this.#due);
    if (goodbye && this.#attempt) this.#say(Kind.bye, new Uint8Array(0));
    this.#drop();
  }

  #say(kind: number, plain: Uint8Array): bigint {
    this.#sequence++;
    const sequence = this.#sequence;
    void this.#room.send(this, kind, sequence, plain).catch(() => {}); // what is due will tell
    return sequence;
  }

  #expect(ms: number): void {
    clearTimeout(this.#due);
    this.#due = setTimeout(() => this.#overdue(), ms);
  }

  #overdue(): void {
    if (this.#attempt?.open && this.#tries === 0) {
      this.#drop(); // after a goodbye
      return;
    }
    if (!this.shown || ++this.#tries > MAX_TRIES) {
      this.#drop();
      return;
    }
    // The side with the lower member tries first, the other one later, so that they do not cross for ever.
    if (this.#lower || this.#tries % 2 === 0) this.#offer();
    else this.#expect(OPEN_WITHIN);
  }

  #failed(): void {
    this.#drop();
    this.#expect(OPEN_WITHIN);
  }

  #drop(): void {
    const attempt = this.#attempt;
    if (!attempt) return;
    this.#attempt = undefined;
    this.#candidates = [];
    attempt.pc.close();
    this.emit('closed');
    this.#room.ended(this, attempt.open);
  }

  #begin(): Attempt {
    const pc = new this.#room.rtc(this.#room.configuration);
    const channel = pc.createDataChannel(MAIN, { negotiated: true, id: 0 });
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = FULL / 4;
    const attempt: Attempt = { pc, channel, offer: 0n, remote: false, open: false, early: [] };
    const current = () => this.#attempt === attempt;
    channel.onopen = () => {
      if (!current()) return;
      clearTimeout(this.#due);
      this.#tries = 0;
      attempt.open = true;
      this.#room.opened(this);
    };
    channel.onmessage = (event: MessageEvent<ArrayBuffer>) => this.#room.message(this, new Uint8Array(event.data));
    const ended = () => {
      if (!current()) return;
      this.#drop();
      if (this.shown) this.#expect(this.#lower ? 0 : OFFERED_WITHIN);
    };
    channel.onclose = ended;
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === 'failed' || pc.connectionState === 'closed') ended();
    };
    pc.ondatachannel = (event) => this.emit('channel', event.channel);
    pc.onicecandidate = (event) => {
      if (current() && event.candidate) this.#candidate(event.candidate.toJSON());
    };
    this.#attempt = attempt;
    return attempt;
  }

  /** Candidates that are found together go together. */
  #candidate(candidate: RTCIceCandidateInit): void {
    this.#candidates.push(candidate);
    if (this.#candidates.length > 1) return;
    setTimeout(() => {
      const all = this.#candidates;
      this.#candidates = [];
      if (all.length > 0) this.#say(Kind.candidates, new TextEncoder().encode(JSON.stringify(all)));
    }, 5);
  }

  #describe(kind: number, description: Description): bigint {
    return this.#say(kind, new TextEncoder().encode(JSON.stringify(description)));
  }

  #offer(): void {
    this.#turn = this.#turn.then(async () => {
      this.#drop();
      this.#expect(OPEN_WITHIN);
      const attempt = this.#begin();
      const offer = await attempt.pc.createOffer();
      await attempt.pc.setLocalDescription(offer);
      if (this.#attempt === attempt) attempt.offer = this.#describe(Kind.offer, { type: 'offer', sdp: offer.sdp ?? '' });
    }).catch(() => this.#failed());
  }

  async #signalled(header: Header, plain: Uint8Array): Promise<void> {
    if (header.kind === Kind.bye) {
      this.#tries = 0;
      this.#expect(this.#attempt?.open ? GONE_WITHIN : 0);
      return;
    }
    const said: unknown = JSON.parse(new TextDecoder().decode(plain));
    if (header.kind === Kind.offer && isDescription(said, 'offer')) await this.#onOffer(said, header.sequence);
    if (header.kind === Kind.answer && isDescription(said, 'answer')) await this.#onAnswer(said);
    if (header.kind === Kind.candidates && Array.isArray(said)) await this.#onCandidates(said as RTCIceCandidateInit[]);
  }

  async #onOffer(said: Description, sequence: bigint): Promise<void> {
    let attempt = this.#attempt;
    if (attempt && attempt.offer !== 0n && !attempt.remote && this.#lower) return; // two crossed, and ours stands
    const known = attempt?.remote && origin(attempt.pc.remoteDescription?.sdp ?? '') === origin(said.sdp);
    if (!attempt || !known) {
      const early = attempt && !attempt.remote ? attempt.early : [];
      this.#drop();
      attempt = this.#begin();
      attempt.early = early;
      this.#expect(OPEN_WITHIN);
    }
    await this.#remote(attempt, said);
    const answer = await attempt.pc.createAnswer();
    await attempt.pc.setLocalDescription(answer);
    if (this.#attempt === attempt) this.#describe(Kind.answer, { type: 'answer', sdp: answer.sdp ?? '', re: Number(sequence) });
  }

  async #onAnswer(said: Description): Promise<void> {
    const attempt = this.#attempt;
    if (!attempt || attempt.pc.signalingState !== 'have-local-offer') return;
    if (said.re !== undefined && BigInt(said.re) !== attempt.offer) return;
    await this.#remote(attempt, said);
  }

  async #remote(attempt: Attempt, said: Description): Promise<void> {
    await attempt.pc.setRemoteDescription({ type: said.type, sdp: said.sdp });
    attempt.remote = true;
    const early = attempt.early;
    attempt.early = [];
    await this.#add(attempt, early);
  }

  async #onCandidates(list: RTCIceCandidateInit[]): Promise<void> {
    const attempt = this.#attempt;
    if (!attempt) return;
    if (attempt.remote) await this.#add(attempt, list);
    else attempt.early = [...attempt.early, ...list].slice(0, MAX_CANDIDATES);
  }

  /** One that cannot be used is no failure: it may be of an earlier connection. */
  async #add(attempt: Attempt, list: RTCIceCandidateInit[]): Promise<void> {
    for (const candidate of list.slice(0, MAX_CANDIDATES)) await attempt.pc.addIceCandidate(candidate).catch(() => {});
  }
}

function isDescription(said: unknown, type: 'offer' | 'answer'): said is Description {
  return typeof said === 'object' && said !== null && 'type' in said && said.type === type && 'sdp' in said && typeof said.sdp === 'string'
    && (!('re' in said) || Number.isSafeInteger(said.re));
}

/** Tells connections apart: the session id of the o= line stays the same over all descriptions of one (RFC 8829, 5.2.2). */
function origin(sdp: string): string | undefined {
  return /^o=\S+ (\S+)/m.exec(sdp)?.[1];
}
