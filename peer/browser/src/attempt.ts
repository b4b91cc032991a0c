// One RTCPeerConnection with its two channels, from its first description to its end.

import type { Bytes } from './bytes.ts';
import { PeerserverError } from './errors.ts';
import { type Leg, legOf, type Reasons, reasonsOf } from './way.ts';

const LABELS = ['peerserver', 'peerserver.control'] as const; // of channels 0 and 1, which both sides open
const FULL = 1 << 20; // bytes that wait in a channel before send waits
const MAX_HELD = 4 << 20; // bytes that come before somebody takes them
export const MAX_CANDIDATES = 128;
const STUCK_AFTER = 1000; // nothing of what waits has gone, and nothing has come
const LOOKS = [2000, 10_000]; // at the way it goes, where the browser does not tell when it is another

export interface AttemptHost {
  opened(attempt: Attempt): void;
  closed(attempt: Attempt): void;
  state(attempt: Attempt, state: RTCPeerConnectionState): void;
  candidate(attempt: Attempt, candidate: RTCIceCandidateInit): void;
  negotiate(attempt: Attempt): void;
  incoming(channel: RTCDataChannel): void;
  /** What waits to be sent does not go. */
  stuck(attempt: Attempt): void;
}

export type Sink = (channel: number, data: Bytes) => void;

export class Attempt {
  readonly pc: RTCPeerConnection;
  /** Sequence of our offer, 0n: the other side made it. */
  offer = 0n;
  /** When our offer went out, by performance.now(). */
  offered = 0;
  /** Sequence of the newest description of the other side. */
  heard = 0n;
  /** The other side's description is set. */
  remote = false;
  /** Both channels are open. */
  open = false;
  /** ICE restarts since it was last connected. */
  restarts = 0;
  /** It has all servers that there are, and not only the first few. */
  wide = false;
  /** When its servers were set, by performance.now(). */
  configured = performance.now();
  /** Candidates that came before the description that they are of. */
  early: RTCIceCandidateInit[] = [];
  readonly #channels: RTCDataChannel[];
  readonly #host: AttemptHost;
  #configuration: RTCConfiguration;
  #reasons: Reasons | undefined;
  #watch: ReturnType<typeof setTimeout> | undefined; // while something waits to be sent
  #sent = 0; // bytes
  #came = false; // something, since it was looked at
  readonly #looks: ReturnType<typeof setTimeout>[] = [];
  #sink: Sink | undefined;
  #held: [channel: number, data: Bytes][] = [];
  #heldBytes = 0;
  #ended = false;

  constructor(host: AttemptHost, rtc: typeof RTCPeerConnection, configuration: RTCConfiguration) {
    this.#host = host;
    this.#configuration = configuration;
    this.pc = new rtc(configuration);
    this.#channels = LABELS.map((label, id) => this.#channel(label, id));
    this.pc.onconnectionstatechange = () => {
      if (!this.#ended) host.state(this, this.pc.connectionState);
    };
    this.pc.onicecandidate = (event) => {
      if (!this.#ended && event.candidate?.candidate) host.candidate(this, event.candidate.toJSON());
    };
    this.pc.onnegotiationneeded = () => {
      if (this.open && !this.#ended) host.negotiate(this);
    };
    this.pc.ondatachannel = (event) => host.incoming(event.channel);
  }

  #channel(label: string, id: number): RTCDataChannel {
    const channel = this.pc.createDataChannel(label, { negotiated: true, id });
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = FULL / 4;
    channel.onopen = () => this.#opened();
    channel.onclose = () => this.#closed();
    channel.onmessage = (event: MessageEvent<unknown>) => {
      if (event.data instanceof ArrayBuffer) this.#message(id, new Uint8Array(event.data));
    };
    return channel;
  }

  #opened(): void {
    if (this.#ended || this.open || this.#channels.some((channel) => channel.readyState !== 'open')) return;
    this.open = true;
    this.#host.opened(this);
  }

  #closed(): void {
    if (!this.#ended) this.#host.closed(this);
  }

  #message(id: number, data: Bytes): void {
    this.#came = true;
    if (this.#sink) return this.#sink(id, data);
    this.#heldBytes += data.length;
    if (this.#heldBytes <= MAX_HELD) this.#held.push([id, data]);
    else this.#closed();
  }

  /** Gives what has come, and whatever comes, to `sink`. */
  attach(sink: Sink): void {
    this.#sink = sink;
    this.#heldBytes = 0;
    for (const [id, data] of this.#held.splice(0)) this.#sink(id, data);
  }

  /** Sends a message. Resolves when there is room for more. */
  async send(id: 0 | 1, data: Uint8Array): Promise<void> {
    const channel = this.#channels[id];
    if (channel?.readyState !== 'open') throw new PeerserverError('node_gone', 'the connection has ended');
    channel.send(data as Uint8Array<ArrayBuffer>);
    this.#sent += data.length;
    this.#watch ??= this.#watched();
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

  get #waiting(): number {
    return this.#channels.reduce((sum, { bufferedAmount }) => sum + bufferedAmount, 0);
  }

  /** A browser takes 5 s and more to see that nothing passes; a transfer shows it before. */
  #watched(): ReturnType<typeof setTimeout> | undefined {
    const waiting = this.#waiting;
    const gone = this.#sent - waiting;
    this.#came = false;
    if (waiting === 0) return undefined;
    return setTimeout(() => {
      if (this.#sent - this.#waiting <= gone && !this.#came) this.#host.stuck(this);
      this.#watch = this.#watched();
    }, STUCK_AFTER);
  }

  /** Other servers are for the next ICE restart. */
  configure(configuration: RTCConfiguration): void {
    if (this.#configuration === configuration) return;
    try {
      this.pc.setConfiguration(configuration);
    } catch {
      return; // a WebRTC implementation that cannot: those that it has may do
    }
    this.#configuration = configuration;
    this.configured = performance.now();
  }

  /** Whether it goes over a TURN server. */
  async leg(): Promise<Leg> {
    return legOf(await this.pc.getStats());
  }

  /** Why it has found no better way. */
  get reasons(): Reasons {
    return this.#reasons ?? reasonsOf(this.pc, this.#configuration);
  }

  /** Calls `changed` when it may go another way. */
  onPath(changed: () => void): void {
    const transport = this.pc.sctp?.transport?.iceTransport;
    if (transport && 'onselectedcandidatepairchange' in transport) transport.addEventListener('selectedcandidatepairchange', changed);
    else for (const ms of LOOKS) this.#looks.push(setTimeout(changed, ms));
  }

  close(): void {
    this.#ended = true;
    for (const timer of [...this.#looks, this.#watch]) clearTimeout(timer);
    this.#reasons = this.reasons; // the connection tells no more when it is closed
    this.#sink = undefined;
    this.#held = [];
    this.pc.close();
  }
}
