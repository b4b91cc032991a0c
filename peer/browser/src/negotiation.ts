// How two members come to a connection: offers, answers, candidates; whose offer stands when two cross; what is tried again, and
// when. An open connection whose path is lost is mended by an ICE restart.

import { Attempt, type AttemptHost, MAX_CANDIDATES } from './attempt.ts';
import { Kind } from './wire.ts';

const OFFERED_WITHIN = 5000; // by those who are there, to one who joins
const OPEN_WITHIN = 15_000; // from offer and answer
const MAX_TRIES = 5;
const BACKOFF_LEAST = 5000; // while the connection goes over nodes
const BACKOFF_MOST = 60_000;
const TROUBLE_AFTER = 500; // without a way, before an ICE restart
const RESTART_EVERY = 5000;
const SETTLED_AFTER = 10_000; // a connection: SCTP waits for some seconds before it sends again what was lost
const AGAIN_AFTER = 2000; // the first one, with more servers
const RESTART_LEAST = 1000; // between two, whatever happens
const FORGOTTEN_AFTER = 30_000; // a restart: the next one is a first one
const WIDEN_AFTER = 1500; // with an answer, but no connection: by the side that has offered, and later by the other
const MENDED_WITHIN = 20_000; // else the connection has ended
const TURN_AFTER = 500; // the higher side's offers on an open connection wait for one of the lower
const MEND_AFTER = 1500; // and its ICE restarts
const BATCH_AFTER = 5;
const CROSSED_WITHIN = 1000; // two offers; later the first one is taken for lost

/** What a negotiation needs of its peer. */
export interface Negotiating {
  readonly lower: boolean; // our offer stands when two cross
  readonly rtc: typeof RTCPeerConnection;
  /** The servers: few at first, and all when those did not do. */
  configuration(few: boolean): RTCConfiguration;
  /** Whether the member is thought to be there. */
  wanted(): boolean;
  /** Whether there is a connection over nodes: no hurry, and no end of trying. */
  relayed(): boolean;
  /** Whether one more connection is made at the other side's wish. */
  affords(): boolean;
  /** Sends a signal and answers its sequence. */
  signal(kind: number, plain: Uint8Array): bigint;
  begun(): void;
  opened(attempt: Attempt): void;
  /** It has ended, or did not come to be. */
  ended(attempt: Attempt): void;
  /** ICE found no way. */
  noWay(attempt: Attempt): void;
  /** An open connection is not answered any more. */
  troubled(): void;
  /** Nothing is tried any more. */
  idle(): void;
  incoming(channel: RTCDataChannel): void;
}

interface Description {
  type: 'offer' | 'answer';
  sdp: string;
  re?: number; // sequence of the offer that an answer is to
}

type Timer = ReturnType<typeof setTimeout> | undefined;

export class Negotiation implements AttemptHost {
  readonly #peer: Negotiating;
  attempt: Attempt | undefined;
  #tries = 0;
  #due: Timer;
  #batch: Timer;
  #trouble: Timer; // until the next ICE restart
  #mended: Timer;
  #widen: Timer; // to all servers
  #restarted = -Infinity; // when
  #connected = 0; // when
  #wide = false; // the few servers did not lead to the other side
  #turn: Promise<void> = Promise.resolve(); // signals are taken one after the other
  #waiting = 0;
  #candidates: RTCIceCandidateInit[] = [];
  /** Something is tried, or connected. */
  busy = false;

  constructor(peer: Negotiating) {
    this.#peer = peer;
  }

  /** Makes an offer now, or waits for that of the other side. */
  meet(offers: boolean): void {
    if (this.attempt) return;
    this.#tries = 0;
    if (offers) this.#offer();
    else this.#expect(OFFERED_WITHIN);
  }

  /**
   * Says again what may have been lost with a node: our description, with the candidates that have been found. Who has had it
   * takes it for the same.
   */
  repeat(): void {
    this.#turn = this.#turn.then(() => {
      const attempt = this.attempt;
      const sdp = attempt?.pc.localDescription?.sdp;
      if (!attempt || sdp === undefined) return;
      if (attempt.pc.signalingState === 'have-local-offer') {
        this.#offered(attempt, sdp);
        if (attempt.open) this.#watch(attempt); // it goes out only now
      } else if (attempt.open && attempt.pc.connectionState !== 'connected') this.mend();
      else if (attempt.open) return;
      else if (attempt.offer === 0n) this.#describe(Kind.answer, { type: 'answer', sdp, re: Number(attempt.heard) });
      else this.#candidatesOf(sdp);
    }).catch(() => {});
  }

  #candidatesOf(sdp: string): void {
    const all = Array.from(sdp.matchAll(/^a=(candidate:.*?)\r?$/gm), ([, candidate]) => ({ candidate, sdpMid: '0', sdpMLineIndex: 0 }));
    if (all.length > 0) this.#peer.signal(Kind.candidates, new TextEncoder().encode(JSON.stringify(all)));
  }

  /** The network is another one, which may let through less: what would be tried later is tried now, with all servers. */
  hurry(): void {
    this.#wide = false;
    if (this.attempt) this.attempt.wide = true;
    if (this.attempt?.open) this.mend();
    else if (this.busy && !this.attempt) this.meet(this.#peer.lower);
  }

  /** An open connection does not answer: another way is looked for at once. */
  mend(): void {
    const { attempt } = this;
    if (!attempt?.open || performance.now() - this.#restarted < RESTART_LEAST) return;
    clearTimeout(this.#trouble);
    this.#restart(attempt);
  }

  /** There are other credentials, and those of an open connection of this age in milliseconds expire: its allocation is replaced. */
  renewed(age: number): void {
    if (this.attempt && performance.now() - this.attempt.configured > age) this.mend();
  }

  /** Takes what was in an envelope. */
  take(kind: number, sequence: bigint, plain: Uint8Array): void {
    if (this.#waiting >= MAX_CANDIDATES) return;
    this.#waiting++;
    this.#turn = this.#turn.then(() => this.#signalled(kind, sequence, plain)).catch(() => this.#failed()).finally(() => void this.#waiting--);
  }

  /** The connection over nodes has ended: what is tried has its number of tries again. */
  hasten(): void {
    this.#tries = 0;
    if (!this.attempt && this.#peer.wanted()) this.#expect(this.#peer.lower ? 0 : OFFERED_WITHIN);
  }

  /** There is a connection over nodes: a better one is looked for, without haste. */
  slowly(): void {
    this.#tries = 0;
    if (!this.busy) this.#expect(this.#backoff());
  }

  /** Ends it and tries nothing more. */
  stop(): void {
    this.#expect(undefined);
    this.#drop();
  }

  #expect(ms: number | undefined): void {
    clearTimeout(this.#due);
    const idle = this.busy && ms === undefined;
    this.busy = ms !== undefined;
    if (ms !== undefined) this.#due = setTimeout(() => this.#overdue(), ms);
    else if (idle) this.#peer.idle();
  }

  #overdue(): void {
    if (!this.#peer.wanted() && !this.#peer.relayed()) return this.stop();
    if (this.#peer.relayed()) {
      if (this.attempt) this.#failed();
      else this.#offer();
      return;
    }
    if (++this.#tries > MAX_TRIES) return this.stop();
    // The side with the lower member tries first, the other one later, so that they do not cross for ever.
    if (this.#peer.lower || this.#tries % 2 === 0) this.#offer();
    else this.#expect(OPEN_WITHIN);
  }

  #failed(): void {
    this.#drop();
    this.#expect(this.#peer.relayed() ? this.#backoff() : OPEN_WITHIN);
  }

  /** 5, 10, 20 ... 60 s, give or take a quarter. The higher side leaves the lower one the time to offer. */
  #backoff(): number {
    const wait = Math.min(BACKOFF_MOST, BACKOFF_LEAST * 2 ** this.#tries++);
    return wait * (0.75 + Math.random() / 2) + (this.#peer.lower ? 0 : OPEN_WITHIN);
  }

  #drop(): void {
    const attempt = this.attempt;
    if (!attempt) return;
    this.attempt = undefined;
    this.#candidates = [];
    for (const timer of [this.#batch, this.#trouble, this.#mended, this.#widen]) clearTimeout(timer);
    attempt.close();
    this.#peer.ended(attempt);
  }

  #begin(): Attempt {
    this.attempt = new Attempt(this, this.#peer.rtc, this.#peer.configuration(!this.#wide));
    this.attempt.wide = this.#wide;
    this.#expect(OPEN_WITHIN);
    this.#peer.begun();
    return this.attempt;
  }

  // What an attempt tells.

  opened(attempt: Attempt): void {
    if (this.attempt !== attempt) return;
    clearTimeout(this.#due);
    clearTimeout(this.#widen);
    attempt.restarts = 0;
    this.#tries = 0;
    this.#peer.opened(attempt);
  }

  closed(attempt: Attempt): void {
    if (this.attempt !== attempt) return;
    const wasOpen = attempt.open;
    this.#drop();
    if (!this.#peer.wanted() && !this.#peer.relayed()) return this.#expect(undefined);
    if (!wasOpen && this.#peer.relayed()) return this.#expect(this.#backoff());
    this.#expect(wasOpen && this.#peer.lower ? 0 : OFFERED_WITHIN);
  }

  state(attempt: Attempt, state: RTCPeerConnectionState): void {
    if (this.attempt !== attempt) return;
    if (state === 'failed' && !attempt.open) {
      if (this.#widens(attempt)) return this.#widenNow(attempt);
      this.#peer.noWay(attempt);
      this.closed(attempt);
    } else if (state === 'closed') {
      this.closed(attempt);
    } else if (state === 'connected') {
      clearTimeout(this.#trouble);
      clearTimeout(this.#mended);
      this.#mended = undefined;
      this.#connected = performance.now();
      attempt.restarts = 0;
    } else if ((state === 'disconnected' || state === 'failed') && attempt.open) {
      this.#peer.troubled();
      this.#mended ??= setTimeout(() => this.closed(attempt), MENDED_WITHIN);
      clearTimeout(this.#trouble);
      this.#trouble = setTimeout(() => this.#mend(), state === 'failed' ? 0 : TROUBLE_AFTER);
    }
  }

  /** Candidates that are found together go together. */
  candidate(attempt: Attempt, candidate: RTCIceCandidateInit): void {
    if (this.attempt !== attempt) return;
    const first = this.#candidates.push(candidate) === 1;
    if (globalThis.document?.hidden) this.#flush(); // a timer of a page that is not seen has up to a second
    else if (first) this.#batch = setTimeout(() => this.#flush(), BATCH_AFTER);
  }

  #flush(): void {
    const all = this.#candidates;
    this.#candidates = [];
    clearTimeout(this.#batch);
    if (all.length > 0) this.#peer.signal(Kind.candidates, new TextEncoder().encode(JSON.stringify(all)));
  }

  /** The app has added something that needs an offer. */
  negotiate(attempt: Attempt): void {
    if (this.#peer.lower) this.#reoffer(attempt, false);
    else setTimeout(() => this.#reoffer(attempt, false), TURN_AFTER);
  }

  incoming(channel: RTCDataChannel): void {
    this.#peer.incoming(channel);
  }

  stuck(attempt: Attempt): void {
    const now = performance.now();
    if (this.attempt !== attempt || now - this.#connected < SETTLED_AFTER) return;
    if (now - this.#restarted < (attempt.restarts > 1 ? FORGOTTEN_AFTER : AGAIN_AFTER)) return;
    this.#peer.troubled();
    this.mend();
  }

  // ICE restarts.

  /** Looks for another way: the lower side by an offer at once, the other when none has come. */
  #mend(): void {
    const attempt = this.attempt;
    if (!attempt?.open) return;
    clearTimeout(this.#trouble);
    const since = performance.now() - this.#restarted;
    const every = pauseOf(attempt);
    if (since < every) {
      this.#trouble = setTimeout(() => this.#mendAgain(attempt), every - since);
      return;
    }
    if (this.#peer.lower) {
      this.#restart(attempt);
    } else {
      this.#trouble = setTimeout(() => {
        if (performance.now() - this.#restarted >= every) this.#restart(attempt);
      }, MEND_AFTER);
    }
  }

  #mendAgain(attempt: Attempt): void {
    if (this.attempt === attempt && attempt.pc.connectionState !== 'connected') this.#mend();
  }

  #restart(attempt: Attempt): void {
    this.#restarting(attempt);
    this.#reoffer(attempt, true);
    this.#watch(attempt);
  }

  /** Another ICE restart, if the one that begins now does not lead to the other side. */
  #watch(attempt: Attempt): void {
    this.#restarted = performance.now();
    clearTimeout(this.#trouble);
    this.#trouble = setTimeout(() => this.#mendAgain(attempt), pauseOf(attempt));
  }

  #reoffer(attempt: Attempt, iceRestart: boolean): void {
    this.#turn = this.#turn.then(async () => {
      const { pc } = attempt;
      if (this.attempt !== attempt || (pc.signalingState !== 'stable' && !(iceRestart && pc.signalingState === 'have-local-offer'))) return;
      if (iceRestart) this.#configure(attempt);
      const offer = await pc.createOffer({ iceRestart });
      await pc.setLocalDescription(offer);
      if (this.attempt === attempt) this.#offered(attempt, offer.sdp);
    }).catch(() => {}); // the connection is as it was
  }

  #restarting(attempt: Attempt): void {
    const now = performance.now();
    if (now - this.#restarted > FORGOTTEN_AFTER) attempt.restarts = 0;
    attempt.restarts++;
    this.#restarted = now;
  }

  /** Before an ICE restart, of either side. */
  #configure(attempt: Attempt): void {
    attempt.wide ||= !attempt.open || attempt.restarts > 1;
    attempt.configure(this.#peer.configuration(!attempt.wide));
  }

  /** Whether there are servers that were not tried yet. */
  #widens(attempt: Attempt): boolean {
    return !attempt.open && attempt.remote && !attempt.wide && !['connected', 'completed'].includes(attempt.pc.iceConnectionState)
      && this.#peer.configuration(true) !== this.#peer.configuration(false);
  }

  #widenNow(attempt: Attempt): void {
    clearTimeout(this.#widen);
    if (this.attempt !== attempt || !this.#widens(attempt)) return;
    this.#wide = true;
    this.#restart(attempt);
  }

  // Offers and answers.

  #offered(attempt: Attempt, sdp = ''): void {
    attempt.offer = this.#describe(Kind.offer, { type: 'offer', sdp });
    attempt.offered = performance.now();
  }

  #describe(kind: number, description: Description): bigint {
    return this.#peer.signal(kind, new TextEncoder().encode(JSON.stringify(description)));
  }

  #offer(): void {
    this.#expect(OPEN_WITHIN);
    this.#turn = this.#turn.then(async () => {
      this.#drop();
      const attempt = this.#begin();
      const offer = await attempt.pc.createOffer();
      await attempt.pc.setLocalDescription(offer);
      if (this.attempt === attempt) this.#offered(attempt, offer.sdp);
    }).catch(() => this.#failed());
  }

  async #signalled(kind: number, sequence: bigint, plain: Uint8Array): Promise<void> {
    const said: unknown = JSON.parse(new TextDecoder().decode(plain));
    if (kind === Kind.offer && isDescription(said, 'offer')) await this.#onOffer(said, sequence);
    if (kind === Kind.answer && isDescription(said, 'answer')) await this.#onAnswer(said, sequence);
    if (kind === Kind.candidates && Array.isArray(said)) await this.#onCandidates(said as RTCIceCandidateInit[]);
  }

  async #onOffer(said: Description, sequence: bigint): Promise<void> {
    let attempt = this.attempt;
    if (attempt && sequence < attempt.heard) return; // a node has held it back
    if (attempt && attempt.pc.signalingState === 'have-local-offer' && this.#peer.lower) { // two crossed, and ours stands
      if (!attempt.open && performance.now() - attempt.offered > CROSSED_WITHIN) this.repeat();
      return;
    }
    const known = attempt?.remote && origin(attempt.pc.remoteDescription?.sdp ?? '') === origin(said.sdp);
    if (!attempt || !known) {
      if (!this.#peer.affords()) return;
      const early = attempt && !attempt.remote ? attempt.early : [];
      this.#drop();
      attempt = this.#begin();
      attempt.early = early;
    } else {
      this.#restarting(attempt); // theirs will do
      if (restarts(attempt.pc.remoteDescription?.sdp, said.sdp)) this.#configure(attempt);
    }
    attempt.heard = sequence;
    await this.#remote(attempt, said);
    const answer = await attempt.pc.createAnswer();
    await attempt.pc.setLocalDescription(answer);
    if (this.attempt === attempt) this.#describe(Kind.answer, { type: 'answer', sdp: answer.sdp ?? '', re: Number(sequence) });
  }

  async #onAnswer(said: Description, sequence: bigint): Promise<void> {
    const attempt = this.attempt;
    if (!attempt || attempt.pc.signalingState !== 'have-local-offer' || sequence < attempt.heard) return;
    if (said.re !== undefined && BigInt(said.re) !== attempt.offer) return;
    attempt.heard = sequence;
    await this.#remote(attempt, said);
  }

  async #remote(attempt: Attempt, said: Description): Promise<void> {
    await attempt.pc.setRemoteDescription({ type: said.type, sdp: said.sdp });
    attempt.remote = true;
    clearTimeout(this.#widen);
    // Of whom the first offer was: with the roles turned round before there is a connection, Firefox's answer is none for Chromium.
    if (this.#widens(attempt)) this.#widen = setTimeout(() => this.#widenNow(attempt), attempt.offer === 0n ? 2 * WIDEN_AFTER : WIDEN_AFTER);
    const early = attempt.early;
    attempt.early = [];
    await this.#add(attempt, early);
  }

  async #onCandidates(list: RTCIceCandidateInit[]): Promise<void> {
    const attempt = this.attempt;
    if (!attempt) return;
    if (list.length === 0 && this.#peer.lower) this.mend(); // what it asks for
    if (attempt.remote) await this.#add(attempt, list);
    else attempt.early = [...attempt.early, ...list].slice(0, MAX_CANDIDATES);
  }

  /** One that cannot be used is no failure: it may be of an earlier connection. */
  async #add(attempt: Attempt, list: RTCIceCandidateInit[]): Promise<void> {
    for (const candidate of list.slice(0, MAX_CANDIDATES)) await attempt.pc.addIceCandidate(candidate).catch(() => {});
  }
}

/** Milliseconds until the next ICE restart, if there has been one. */
function pauseOf({ restarts }: Attempt): number {
  return restarts > 1 ? RESTART_EVERY : AGAIN_AFTER;
}

function isDescription(said: unknown, type: 'offer' | 'answer'): said is Description {
  return typeof said === 'object' && said !== null && 'type' in said && said.type === type && 'sdp' in said && typeof said.sdp === 'string'
    && (!('re' in said) || Number.isSafeInteger(said.re));
}

/** Whether a description of the other side is of an ICE restart (RFC 8839, 5.4). */
function restarts(before = '', now: string): boolean {
  const [one, other] = [before, now].map((sdp) => /^a=ice-ufrag:(\S+)/m.exec(sdp)?.[1]);
  return one !== other;
}

/** Tells connections apart: the session id of the o= line stays the same over all descriptions of one (RFC 8829, 5.2.2). */
function origin(sdp: string): string | undefined {
  return /^o=\S+ (\S+)/m.exec(sdp)?.[1];
}
