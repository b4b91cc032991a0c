// A Go peer, `peerserver join`, that is asked as a tab with pages/sdk.mjs is.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Program } from './program.mjs';
import { within } from './wait.mjs';

const JOINED_WITHIN = 15_000;
const LONG = 1000; // as in pages/sdk.mjs: what is longer is part of a file
const PIECE = 60_000;

/** A peer that has yet to join; `call`, `detail` and `close` are those of a tab. */
export function openGo() {
  const peer = new GoPeer();
  return {
    call: async (method, argument) => peer[method](argument),
    detail: () => peer.detail(),
    close: () => peer.close(),
  };
}

class GoPeer {
  #program;
  #events = []; // what the program has printed, without pieces of files
  #id;
  #received = { bytes: 0, hash: createHash('sha256') };

  /** Joins and greets whoever is connected. Answers the time of the call. */
  async join({ urls, app, name = '', secret = '' }) {
    const at = Date.now();
    await this.#start([...urls.flatMap((url) => ['--node', url]), '--name', name, '--secret', secret, app]);
    return at;
  }

  /** Can be dialled, at the addresses that it answers. */
  async listen({ urls, name }) {
    const { addresses } = await this.#start([...urls.flatMap((url) => ['--node', url]), '--name', name, '--listen']);
    return addresses;
  }

  /** Dials, and greets who is met. Answers the time of the call. */
  dial({ address, name }) {
    return this.join({ urls: [], app: address, name });
  }

  async #start(args) {
    this.#program = new Program(process.env.E2E_BIN, ['join', '--json', ...args], { stdin: 'pipe', keep: false });
    this.#program.on('line', (line) => this.#take(JSON.parse(line)));
    const joined = await within(JOINED_WITHIN, 'the Go peer joins', this.#event((e) => e.event === 'joined'));
    this.#id = joined.id;
    for (const { id } of this.peers()) this.#greet(id); // who is dialled is met before
    return joined;
  }

  #greet(id) {
    // The lines of a terminal go to all; in a room of two that is to the other.
    this.say(`hello ${id} from ${this.#id}`);
  }

  id() {
    return this.#id;
  }

  async hears(id) {
    return this.#event((e) => e.event === 'message' && e.id === id);
  }

  async loses(id) {
    return this.#event((e) => e.event === 'leave' && e.id === id);
  }

  peers() {
    return this.#events.filter((e) => e.event === 'peer');
  }

  lost() {
    return this.#events.filter((e) => e.event === 'leave');
  }

  heard() {
    return this.#events.filter((e) => e.event === 'message');
  }

  async sees(n) {
    while (this.peers().length < n) await this.#next();
    return this.peers();
  }

  say(text) {
    this.#program.say(text);
  }

  /** Sends `size` bytes, which are text, in lines; answers their hash. */
  async sends(size) {
    const hash = createHash('sha256');
    for (let left = size; left > 0; left -= PIECE) {
      const line = randomBytes(PIECE).toString('base64').slice(0, Math.min(PIECE, left));
      hash.update(line);
      await this.#program.say(line);
    }
    return hash.digest('hex');
  }

  /** Answers the hash of the first `size` bytes of files. */
  async receives(size) {
    while (this.#received.bytes < size) await this.#next();
    return this.#received.hash.copy().digest('hex');
  }

  async leave() {
    await this.#program.close();
  }

  async close() {
    await this.#program?.close();
  }

  detail() {
    return `Go: ${this.#events.map((e) => `${e.event} ${e.id.slice(0, 8)}`).join(', ')}; ${this.#program?.log()}`;
  }

  #take(said) {
    const { event, id, name, text = '', data, addresses } = said;
    const bytes = Buffer.from(data ?? text, data ? 'base64' : 'utf8');
    if (bytes.length >= LONG) {
      this.#received.bytes += bytes.length;
      this.#received.hash.update(bytes);
      return;
    }
    this.#events.push({ event, id, name, text, addresses, at: Date.now() });
    if (event === 'peer' && this.#id) this.#greet(id);
  }

  async #event(wanted) {
    for (;;) {
      const found = this.#events.find(wanted);
      if (found) return found;
      await this.#next();
    }
  }

  /** Waits for what the program prints next, and fails when it ends instead. */
  async #next() {
    const ended = this.#program.gone.then((how) => {
      throw new Error(`the Go peer ended (${how}): ${this.#program.log()}`);
    });
    ended.catch(() => {});
    await Promise.race([once(this.#program, 'line'), ended]);
  }
}
