// One direct connection to another peer: an RTCPeerConnection with one data channel that carries JSON.
//
// The tracker protocol has no place for candidates that come later, so an offer or answer waits until all are gathered.

const GATHER_WITHIN = 2000;
const ANSWER_WITHIN = 8000; // to an offer that was handed over
const CONNECT_WITHIN = 20_000;
const BACK_WITHIN = 10_000; // after a connection was interrupted
const PING_EVERY = 4000;
const SILENT_FOR = 16_000;
const MAX_MESSAGE = 16_384;
const MAX_BUFFERED = 262_144;

/** on.open(), on.message(object), on.measured(), on.close(wasOpen): each as often as it happens, close once. */
export class Connection {
  /** Milliseconds there and back, once measured. */
  rtt = undefined;
  /** 'direct', or 'relay' when a TURN server had to help. */
  path = undefined;
  isOpen = false;
  since = performance.now();
  on = { open() {}, message() {}, measured() {}, close() {} };
  #pc;
  #channel;
  #timer;
  #pinger;
  #heard = 0;
  #sent = new Map(); // pings
  #closed = false;

  /** A connection that waits for an answer, and its offer. */
  static async offer(iceServers) {
    const c = new Connection(iceServers);
    c.#take(c.#pc.createDataChannel('room'));
    await c.#pc.setLocalDescription(await c.#pc.createOffer());
    return [c, await c.#gathered()];
  }

  /** A connection that another's offer asked for, and the answer to it. */
  static async answer(iceServers, offer) {
    const c = new Connection(iceServers);
    try {
      c.#pc.ondatachannel = ({ channel }) => c.#take(channel);
      c.#limit();
      await c.#pc.setRemoteDescription({ type: 'offer', sdp: offer.sdp });
      await c.#pc.setLocalDescription(await c.#pc.createAnswer());
      return [c, await c.#gathered()];
    } catch (err) {
      c.close();
      throw err;
    }
  }

  constructor(iceServers) {
    this.#pc = new RTCPeerConnection({ iceServers });
    this.#pc.onconnectionstatechange = () => this.#changed();
  }

  /** Takes the answer to our offer. */
  async accept(answer) {
    this.#limit();
    try {
      await this.#pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
    } catch {
      this.close();
    }
  }

  /** Says whether the message is on its way. */
  send(message) {
    if (!this.isOpen || this.#channel.bufferedAmount > MAX_BUFFERED) return false;
    this.#channel.send(JSON.stringify(message));
    return true;
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#pinger);
    this.#pc.close();
    const was = this.isOpen;
    this.isOpen = false;
    this.on.close(was);
  }

  /** From now on an answer has to come in time. */
  expect() {
    this.#limit(ANSWER_WITHIN);
  }

  #limit(ms = CONNECT_WITHIN) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.close(), ms);
  }

  async #gathered() {
    const pc = this.#pc;
    if (pc.iceGatheringState !== 'complete') {
      await new Promise((done) => {
        const timer = setTimeout(done, GATHER_WITHIN);
        pc.addEventListener('icegatheringstatechange', () => {
          if (pc.iceGatheringState !== 'complete') return;
          clearTimeout(timer);
          done();
        });
      });
    }
    const { type, sdp } = pc.localDescription;
    return { type, sdp };
  }

  #changed() {
    const state = this.#pc.connectionState;
    if (state === 'failed' || state === 'closed') {
      this.close();
    } else if (state === 'disconnected' && this.isOpen) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.close(), BACK_WITHIN);
    } else if (state === 'connected' && this.isOpen) {
      clearTimeout(this.#timer);
    }
  }

  #take(channel) {
    if (this.#channel) return;
    this.#channel = channel;
    channel.onopen = () => this.#opened();
    channel.onclose = () => this.close();
    channel.onmessage = ({ data }) => this.#message(data);
  }

  #opened() {
    if (this.isOpen || this.#closed) return;
    clearTimeout(this.#timer);
    this.isOpen = true;
    this.#heard = performance.now();
    this.#pinger = setInterval(() => this.#ping(), PING_EVERY);
    this.on.open();
    this.#ping();
    this.#inspect();
  }

  #ping() {
    const now = performance.now();
    if (now - this.#heard > SILENT_FOR) {
      this.close();
      return;
    }
    const n = Math.floor(Math.random() * 2 ** 32);
    if (this.#sent.size > 8) this.#sent.clear();
    if (this.send({ t: 'ping', n })) this.#sent.set(n, now);
  }

  #message(data) {
    this.#heard = performance.now();
    if (typeof data !== 'string' || data.length > MAX_MESSAGE) return;
    let m;
    try {
      m = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof m !== 'object' || m === null) return;
    if (m.t === 'ping') {
      this.send({ t: 'pong', n: m.n });
    } else if (m.t === 'pong') {
      const at = this.#sent.get(m.n);
      if (at === undefined) return;
      this.#sent.delete(m.n);
      this.rtt = this.#heard - at;
      this.on.measured();
    } else {
      this.on.message(m);
    }
  }

  // Which way the bytes go, as the browser tells it.
  async #inspect() {
    try {
      const report = await this.#pc.getStats();
      let pair;
      for (const s of report.values()) {
        if (s.type === 'candidate-pair' && s.state === 'succeeded' && (s.nominated || !pair)) pair = s;
      }
      const ends = [report.get(pair?.localCandidateId), report.get(pair?.remoteCandidateId)];
      this.path = ends.some((end) => end?.candidateType === 'relay') ? 'relay' : 'direct';
    } catch {
      return; // closed meanwhile
    }
    this.on.measured();
  }
}
