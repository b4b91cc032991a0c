// A room: everybody in it has a direct connection to everybody else. The node only introduces them.
//
// Who comes announces some offers; the node hands each to another member, on itself or on another node, and keeps some for
// those who come later. Those who are connected introduce the rest: they tell each other whom they are connected to, and pass
// offers and answers on, one step far. Two that make each other an offer at
// once get two connections, and use the one that the lower peer id offered.

import { Connection } from './connection.js';
import { sha1 } from './sha1.js';
import { Tracker, binary, randomId } from './tracker.js';

/** People in one room, oneself among them. */
export const MAX_PEOPLE = 8;
export const MAX_NAME = 32;
export const MAX_TEXT = 2000;

const SPARE_OFFERS = 3; // for those who come later; a node keeps as many
const MOST_OFFERS = 5;
const OFFER_LASTS = 110_000;
const SOON = 1000;
const MISSING_AGAIN = 10_000; // announce again while somebody is not connected yet
const TELL_EVERY = 3000; // who one is and whom one is connected to
const ANSWER_COUNTS = 3000; // a node may show one offer to several: an answer to it need not lead to anything
const LOSER_STAYS = 2000; // for what is still under way on it
const REMEMBERED = 500; // messages, to drop repeats
const PER_SECOND = 50; // messages of one person

/** The info_hash of a room, for its name as people type it. */
export async function roomHash(name) {
  return sha1(new TextEncoder().encode(`peerserver room ${name.normalize('NFC').trim().toLowerCase()}`));
}

/**
 * on.people()                     somebody came, went, or is better known; see people()
 * on.said({person, text})         a message
 * on.came(person), on.left(person)
 * on.node(state)                  of the connection to the node, as Tracker has it
 * on.others(n)                    how many others the nodes know of
 * on.unreachable()                somebody is there, and no direct way to them was found
 */
export class Mesh {
  id = `-PS0001-${randomId(12)}`;
  #on;
  #tracker;
  #iceServers;
  #name;
  #people = new Map(); // by peer id
  #offers = new Map(); // by offer id: {connection, offer, at}
  #others = 0;
  #announcing = false;
  #timer;
  #due = Infinity; // when it ends
  #telling;
  #left = false;
  #seen = new Set();

  static async join({ url, room, name, iceServers = [], on }) {
    return new Mesh({ url, infoHash: binary(await roomHash(room)), name, iceServers, on });
  }

  constructor({ url, infoHash, name, iceServers, on }) {
    this.#on = on;
    this.#name = name;
    this.#iceServers = iceServers;
    this.#telling = setInterval(() => this.#tell(), TELL_EVERY);
    this.#tracker = new Tracker({
      url,
      infoHash,
      peerId: this.id,
      on: {
        state: (state) => {
          this.#on.node(state);
          if (state === 'open') this.#announce('started');
        },
        reply: (reply) => this.#replied(reply),
        offer: ({ from, id, offer }) => this.#answer(from, offer, (answer) => this.#tracker.answer({ from, id }, answer)),
        answer: (answer) => this.#answered(answer),
        failure: () => this.#again(MISSING_AGAIN),
      },
    });
  }

  /** Those who are here or about to be: [{id, name, state: 'connecting' | 'open', rtt, path}]. */
  people() {
    return [...this.#people.values()].map((p) => {
      const best = p.best();
      return { id: p.id, name: p.name, state: best ? 'open' : 'connecting', rtt: best?.rtt, path: best?.path };
    });
  }

  /** Sends a text to everybody; answers to whom it went. */
  say(text) {
    const message = { t: 'say', id: randomHex(), text };
    return this.people().filter(({ id }) => this.#people.get(id)?.best()?.send(message));
  }

  leave() {
    if (this.#left) return;
    this.#left = true;
    this.#on = Object.fromEntries(Object.keys(this.#on).map((name) => [name, () => {}]));
    clearTimeout(this.#timer);
    clearInterval(this.#telling);
    this.#tracker.close();
    for (const { connection } of this.#offers.values()) connection.close();
    const all = [...this.#people.values()].flatMap((p) => [...p.connections]);
    for (const c of all) c.send({ t: 'bye' });
    // What is sent last would not leave if they were closed at once.
    setTimeout(() => all.forEach((c) => c.close()), 300);
  }

  #connected() {
    return [...this.#people.values()].filter((p) => p.best()).length;
  }

  #room() {
    return MAX_PEOPLE - 1 - this.#people.size;
  }

  // How many offers should be out: one for each who is there, and some for those who come.
  #wanted() {
    const missing = this.#others - this.#people.size;
    return Math.min(this.#room(), MOST_OFFERS, Math.max(SPARE_OFFERS, missing));
  }

  async #announce(event) {
    if (this.#announcing || this.#left) return;
    this.#announcing = true;
    try {
      this.#dropOld();
      await this.#makeOffers(this.#wanted() - this.#offers.size);
    } finally {
      this.#announcing = false;
    }
    if (this.#left || !this.#tracker.open) return;
    const offers = [...this.#offers].slice(0, Math.max(0, this.#wanted())).map(([id, { offer }]) => ({ id, offer }));
    this.#tracker.announce(offers, event);
    // If no reply comes.
    this.#again(MISSING_AGAIN);
  }

  async #makeOffers(n) {
    await Promise.all(Array.from({ length: Math.max(0, n) }, async () => {
      const made = await Connection.offer(this.#iceServers).catch(() => undefined);
      if (!made) return;
      const [connection, offer] = made;
      const id = randomId();
      if (this.#left) {
        connection.close();
        return;
      }
      this.#offers.set(id, { connection, offer, at: Date.now() });
      connection.on = { ...connection.on, close: () => this.#offers.delete(id) };
    }));
  }

  #dropOld() {
    for (const { connection, at } of this.#offers.values()) {
      if (Date.now() - at > OFFER_LASTS) connection.close();
    }
  }

  #again(after) {
    clearTimeout(this.#timer);
    if (this.#left) return;
    this.#due = Date.now() + after;
    this.#timer = setTimeout(() => this.#announce(), after);
  }

  // Not later than it would be anyway.
  #soon() {
    if (this.#due > Date.now() + SOON) this.#again(SOON);
  }

  #replied({ interval, others }) {
    const more = others > this.#others;
    this.#others = others;
    this.#on.others(others);
    const missing = others - this.#connected();
    if (more && this.#wanted() > this.#offers.size) this.#again(SOON);
    else this.#again(missing > 0 && this.#room() > 0 ? MISSING_AGAIN : interval * 1000);
  }

  async #answer(from, offer, reply) {
    if (this.#left || typeof offer?.sdp !== 'string' || this.#people.get(from)?.busy() || !this.#hasPlace(from)) return;
    const person = this.#person(from);
    await person.during(async () => {
      const [connection, answer] = await Connection.answer(this.#iceServers, offer);
      this.#adopt(person, connection, from);
      reply(answer);
    });
    this.#forget(person);
  }

  #hasPlace(id) {
    return this.#people.has(id) || this.#room() > 0;
  }

  #answered({ from, id, answer }) {
    const made = this.#offers.get(id);
    if (this.#left || !made || typeof answer?.sdp !== 'string') return;
    this.#offers.delete(id);
    if (this.#people.get(from)?.best() || !this.#hasPlace(from)) {
      made.connection.close();
    } else {
      this.#adopt(this.#person(from), made.connection, this.id);
      made.connection.accept(answer);
    }
    this.#soon(); // with another offer in its place
  }

  // Tells everybody one's name, and whom one is connected to: again and again, so that nothing depends on one message.
  #tell() {
    const ids = this.people().filter((p) => p.state === 'open').map((p) => p.id);
    for (const id of ids) this.#people.get(id).best().send({ t: 'here', name: this.#name, ids });
  }

  #here(person, { name, ids }) {
    person.name = clean(name, MAX_NAME) || 'somebody';
    if (!person.greeted) {
      person.greeted = true;
      this.#on.came(person);
    }
    this.#on.people();
    this.#introduced(ids, person);
  }

  // A person names others. Of two that do not know each other the lower id asks.
  #introduced(ids, by) {
    if (!Array.isArray(ids)) return;
    for (const id of ids.slice(0, MAX_PEOPLE)) {
      if (typeof id === 'string' && id.length === this.id.length && this.id < id && !this.#people.get(id)?.busy() && this.#hasPlace(id)) {
        this.#ask(id, by);
      }
    }
  }

  async #ask(id, by) {
    const person = this.#person(id);
    await person.during(async () => {
      const [connection, { sdp }] = await Connection.offer(this.#iceServers);
      connection.expect();
      this.#adopt(person, connection, this.id);
      person.asked = connection;
      by.best()?.send({ t: 'pass', kind: 'offer', from: this.id, to: id, sdp });
    });
    this.#forget(person);
  }

  #pass(m, by) {
    const { kind, from, to, sdp } = m;
    if (to !== this.id) {
      // One step: it comes from who wrote it.
      if (from === by.id) this.#people.get(to)?.best()?.send(m);
    } else if (kind === 'offer' && typeof from === 'string' && from.length === this.id.length && from < this.id) {
      this.#answer(from, { sdp }, (answer) => by.best()?.send({ t: 'pass', kind: 'answer', from: this.id, to: from, sdp: answer.sdp }));
    } else if (kind === 'answer' && typeof sdp === 'string') {
      const asked = this.#people.get(from)?.takeAsked();
      asked?.accept({ sdp });
    }
  }

  #person(id) {
    if (!this.#people.has(id)) this.#people.set(id, new Person(id));
    return this.#people.get(id);
  }

  // A person whom nothing leads to any more is gone.
  #forget(person) {
    if (person.connections.size === 0 && !person.making && this.#people.get(person.id) === person) {
      this.#people.delete(person.id);
      if (person.greeted) this.#on.left(person);
      this.#on.people();
      this.#soon();
    }
  }

  #adopt(person, connection, offeredBy) {
    if (this.#left) {
      connection.close();
      return;
    }
    connection.offeredBy = offeredBy;
    person.connections.add(connection);
    connection.on = {
      open: () => {
        const loser = person.loser();
        if (loser) setTimeout(() => loser.close(), LOSER_STAYS);
        this.#tell();
        this.#on.people();
      },
      message: (m) => this.#message(person, m),
      measured: () => this.#on.people(),
      close: (wasOpen) => {
        person.connections.delete(connection);
        if (person.asked === connection) person.asked = undefined;
        if (!wasOpen && !person.greeted && person.connections.size === 0 && !this.#left) this.#on.unreachable();
        this.#forget(person);
      },
    };
    this.#on.people();
  }

  #message(person, m) {
    if (!person.mayTalk()) return;
    switch (m.t) {
      case 'here':
        this.#here(person, m);
        break;
      case 'pass':
        this.#pass(m, person);
        break;
      case 'say': {
        const text = clean(m.text, MAX_TEXT);
        const key = `${person.id}/${m.id}`;
        if (!person.greeted || !text || this.#seen.has(key)) return;
        if (this.#seen.size >= REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
        this.#seen.add(key);
        this.#on.said({ person, text });
        break;
      }
      case 'bye':
        for (const c of [...person.connections]) c.close();
        break;
    }
  }
}

class Person {
  name = '';
  greeted = false; // it told its name
  making = 0; // connections that are not in the set yet
  asked = undefined; // the one whose offer another person passed on
  connections = new Set();
  #second = 0;
  #messages = 0;

  constructor(id) {
    this.id = id;
  }

  /** The open connection that both ends choose. */
  best() {
    const open = [...this.connections].filter((c) => c.isOpen);
    return open.sort((a, b) => (a.offeredBy < b.offeredBy ? -1 : 1))[0];
  }

  /** The open one that they do not. */
  loser() {
    const best = this.best();
    return [...this.connections].find((c) => c.isOpen && c !== best);
  }

  /** Another offer of this person is of no use. */
  busy() {
    return this.making > 0 || this.asked !== undefined || this.best() !== undefined || this.#answeredLately();
  }

  #answeredLately() {
    return [...this.connections].some((c) => c.offeredBy === this.id && performance.now() - c.since < ANSWER_COUNTS);
  }

  /** Runs what makes a connection; what the browser refuses is no connection. */
  async during(make) {
    this.making += 1;
    try {
      await make();
    } catch {
      // An offer that makes no sense to the browser, or no more connections.
    } finally {
      this.making -= 1;
    }
  }

  takeAsked() {
    const asked = this.asked;
    this.asked = undefined;
    return asked;
  }

  mayTalk() {
    const second = Math.floor(Date.now() / 1000);
    if (second !== this.#second) [this.#second, this.#messages] = [second, 0];
    this.#messages += 1;
    return this.#messages <= PER_SECOND;
  }
}

/** A text without control characters, of at most so many. */
export function clean(text, most) {
  if (typeof text !== 'string') return '';
  return [...text.slice(0, 4 * most).replace(/[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, ' ')].slice(0, most).join('').trim();
}

function randomHex() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, '0')).join('');
}
