// The WebTorrent tracker protocol, as far as a room needs it: announces with offers out, replies, offers and answers in.
// Ids are 20 bytes, in JSON a string of as many characters from U+0000 to U+00FF.

const RETRY_FIRST = 1000;
const RETRY_MOST = 30_000;

/** Bytes as the protocol writes them. */
export function binary(bytes) {
  return String.fromCharCode(...bytes);
}

/** `n` characters that nobody guesses. */
export function randomId(n = 20) {
  return binary(crypto.getRandomValues(new Uint8Array(n)));
}

/**
 * One swarm on one node. It stays connected until it is closed.
 *
 * on.state(state)            'connecting', 'open' (time to announce) or 'waiting' (lost, tried again after a while)
 * on.reply({interval, others})   to an announce: seconds to the next one, and how many others the node knows of, here and elsewhere
 * on.offer({from, id, offer})    another peer's offer, to be answered with answer()
 * on.answer({from, id, answer})  to one of our offers
 * on.failure(reason)             the node does not like what we sent
 */
export class Tracker {
  #url;
  #hash;
  #peer;
  #on;
  #socket;
  #timer;
  #retry = RETRY_FIRST;

  constructor({ url, infoHash, peerId, on }) {
    this.#url = url;
    this.#hash = infoHash;
    this.#peer = peerId;
    this.#on = on;
    this.#open();
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** offers: [{id, offer}], event: 'started' the first time on a connection. */
  announce(offers, event) {
    this.#send({
      numwant: offers.length,
      uploaded: 0,
      downloaded: 0,
      left: 1,
      event,
      offers: offers.map(({ id, offer }) => ({ offer_id: id, offer })),
    });
  }

  answer({ from, id }, answer) {
    this.#send({ to_peer_id: from, offer_id: id, answer });
  }

  /** Leaves the swarm. */
  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    if (!socket) return;
    this.#send({ event: 'stopped' });
    this.#socket = undefined;
    socket.close();
  }

  #send(fields) {
    if (!this.open) return;
    this.#socket.send(JSON.stringify({ action: 'announce', info_hash: this.#hash, peer_id: this.#peer, ...fields }));
  }

  #open() {
    this.#on.state('connecting');
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#retry = RETRY_FIRST;
      this.#on.state('open');
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#take(data);
    };
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#on.state('waiting');
      // Not all at once: a node that restarts has many to take back.
      this.#timer = setTimeout(() => this.#open(), this.#retry * (0.5 + Math.random()));
      this.#retry = Math.min(2 * this.#retry, RETRY_MOST);
    };
  }

  #take(data) {
    let m;
    try {
      m = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof m !== 'object' || m === null) return;
    if (m['failure reason']) {
      this.#on.failure(String(m['failure reason']));
      return;
    }
    if (m.action !== 'announce' || m.info_hash !== this.#hash) return;
    if (m.offer || m.answer) {
      const [from, id] = [m.peer_id, m.offer_id];
      if (typeof from !== 'string' || from === this.#peer || typeof id !== 'string') return;
      if (m.offer) this.#on.offer({ from, id, offer: m.offer });
      else this.#on.answer({ from, id, answer: m.answer });
      return;
    }
    const others = Math.max(0, Number(m.complete) + Number(m.incomplete) - 1) || 0;
    this.#on.reply({ interval: Math.max(5, Number(m.interval) || 60), others });
  }
}
