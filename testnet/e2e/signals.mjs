// What one tab and its trackers said to each other, seen from outside: the page and its library know nothing of it.

import { EventEmitter, once } from 'node:events';

const TIMELINE = 60;
const MOST_FRAMES = 1000;

export class Signals extends EventEmitter {
  #begun = Date.now();
  #timeline = [];
  sockets = 0;
  announces = 0;
  replies = 0;
  offersSent = 0;
  offersIn = 0;
  answersSent = 0;
  answersIn = 0;
  failures = [];
  closes = 0;
  /** Frames of a socket that does not speak a tracker's JSON: what came and what was sent. */
  binary = [];
  /** The interval of the newest reply, in seconds. */
  interval = undefined;
  /** The first text frames of each direction. */
  texts = { sent: [], received: [] };

  watch(socket) {
    this.sockets += 1;
    socket.on('framesent', (frame) => {
      this.#keep('sent', frame.payload);
      this.#sent(this.#parse(frame.payload));
    });
    socket.on('framereceived', (frame) => {
      this.#keep('received', frame.payload);
      this.#received(this.#parse(frame.payload));
    });
    socket.on('close', () => {
      this.closes += 1;
      this.emit('close');
    });
  }

  /** Resolves once a tracker has answered an announce of this tab. */
  async announced() {
    if (this.replies === 0) await once(this, 'reply');
  }

  /** Resolves once a text frame that has `text` in it was sent, or received, after the first `from` ones. */
  async frame(direction, text, from = 0) {
    while (!this.texts[direction].slice(from).some((frame) => frame.includes(text))) await once(this, 'text');
  }

  /** Resolves once a socket to a tracker has closed. */
  async closed() {
    if (this.closes === 0) await once(this, 'close');
  }

  summary() {
    const failed = this.failures.length ? `, failures: ${this.failures.join(' | ')}` : '';
    const { sent, received } = this.texts;
    return `${this.sockets} sockets (${this.closes} closed), ${sent.length} texts out, ${received.length} in, ${this.binary.length} binary frames, ${this.announces} announces with ${this.offersSent} offers, ${this.replies} replies, ` +
      `${this.offersIn} offers in, ${this.answersSent} answers out, ${this.answersIn} answers in, interval ${this.interval} s${failed}; ` +
      this.#timeline.join(', ');
  }

  #keep(direction, payload) {
    if (typeof payload !== 'string' || this.texts[direction].length >= MOST_FRAMES) return;
    this.texts[direction].push(payload);
    this.emit('text');
  }

  #note(what) {
    if (this.#timeline.length < TIMELINE) this.#timeline.push(`${Date.now() - this.#begun} ms ${what}`);
  }

  #sent(message) {
    if (message.answer) {
      this.answersSent += 1;
      this.#note('answer out');
    } else if (message.action === 'announce') {
      this.announces += 1;
      this.#note(`announce (${message.offers?.length ?? 0})`);
      this.offersSent += message.offers?.length ?? 0;
    }
  }

  #received(message) {
    if (message['failure reason']) {
      this.failures.push(message['failure reason']);
    } else if (message.offer) {
      this.offersIn += 1;
      this.#note('offer in');
    } else if (message.answer) {
      this.answersIn += 1;
      this.#note('answer in');
    } else if (message.action === 'announce') {
      this.replies += 1;
      this.interval = message.interval;
      this.emit('reply');
    }
  }

  #parse(payload) {
    if (typeof payload !== 'string') {
      if (this.binary.length < MOST_FRAMES) this.binary.push(payload);
      return {};
    }
    try {
      return JSON.parse(payload) ?? {};
    } catch {
      return { 'failure reason': 'a frame that is not JSON' };
    }
  }
}
