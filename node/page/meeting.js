// The people in a room, over the SDK: who is here, on which node, how they are connected, what they say.

import { join } from '../sdk.js';
import { Files } from './files.js';

export const MAX_NAME = 32;
export const MAX_TEXT = 2000;

const LOOK_EVERY = 1000; // at ways and links, which change without an event
const MEASURE_EVERY = 4000;
const PER_SECOND = 20; // messages of one person that are shown

/** One line of text, fit to be shown. */
export function clean(text, most) {
  return typeof text === 'string' ? [...text.normalize('NFC').replace(/[\p{Cc}\p{Cf}\s]+/gu, ' ').trim()].slice(0, most).join('') : '';
}

/** What a person is named by on this page: one key may be in a room twice. */
const keyOf = ({ id, session }) => `${id}/${session}`;

/**
 * on.people()                   somebody came, went, or is connected in another way; see people()
 * on.came(person), on.left(person, lost)
 * on.said(person, text)
 * on.node(url)                  the node in use, undefined while there is none
 * on.offered(person, file)      a file that can be taken; see Files
 */
export class Meeting {
  #room;
  #name;
  #on;
  #people = new Map(); // by key
  #timers;

  static async join({ url, room, name, on }) {
    const joined = await join(`page/${room.toLowerCase()}`, { nodes: [url], name });
    return new Meeting(joined, name, on);
  }

  constructor(room, name, on) {
    this.#room = room;
    this.#name = name;
    this.#on = on;
    this.files = new Files(room);
    room.on('peer', (peer) => this.#came(peer));
    room.on('leave', (peer, lost) => this.#went(peer, lost));
    room.on('message', (peer, data) => this.#heard(peer, data));
    room.on('node', (url) => on.node(url));
    room.on('path', () => on.people());
    for (const peer of room.peers) this.#came(peer);
    this.#timers = [setInterval(() => on.people(), LOOK_EVERY), setInterval(() => this.#measure(), MEASURE_EVERY)];
  }

  /** Oneself. */
  get me() {
    return { id: keyOf(this.#room), name: this.#name };
  }

  /** How many others the nodes know of. */
  get others() {
    return Math.max(this.#room.members, this.#people.size);
  }

  /** Everybody else who is connected: path is direct, turn or nodes; links say the same of those they are connected to. */
  people() {
    return [...this.#people.values()].map((person) => ({
      id: person.id, name: person.name, rtt: person.rtt, path: person.peer.path ?? 'direct', node: person.peer.node, lost: person.peer.lost,
      links: (person.peer.links ?? []).map((link) => ({ id: keyOf(link), path: link.path })),
    }));
  }

  /** Says it to all who are here, and returns them. */
  say(text) {
    const to = [...this.#people.values()];
    this.#tell(to, { say: clean(text, MAX_TEXT) });
    return to;
  }

  /** Offers a file to all who are here, and to who comes later. */
  share(file) {
    const offer = this.files.share(file);
    this.#tell([...this.#people.values()], { file: offer });
    return offer;
  }

  /** What the visitor's network does to connections; see the SDK. */
  diagnose() {
    return this.#room.diagnose();
  }

  leave() {
    for (const timer of this.#timers) clearInterval(timer);
    this.files.end();
    this.#room.leave().catch(() => {});
  }

  #tell(people, said) {
    for (const { peer } of people) peer.send(JSON.stringify(said)).catch(() => {}); // one who goes is no failure
  }

  #came(peer) {
    const person = { id: keyOf(peer), name: clean(peer.name, MAX_NAME) || 'somebody', peer, rtt: undefined, second: 0, said: 0 };
    this.#people.set(person.id, person);
    for (const file of this.files.shared()) this.#tell([person], { file });
    this.#on.came(person);
    this.#on.people();
  }

  #went(peer, lost) {
    const person = this.#people.get(keyOf(peer));
    if (!person || person.peer !== peer) return;
    this.#people.delete(person.id);
    this.#on.left(person, lost);
    this.#on.people();
  }

  #heard(peer, data) {
    const person = this.#people.get(keyOf(peer));
    const second = Math.floor(performance.now() / 1000);
    if (!person) return;
    if (person.second !== second) [person.second, person.said] = [second, 0];
    if (++person.said > PER_SECOND) return;
    let said;
    try {
      said = JSON.parse(new TextDecoder().decode(data)) ?? {};
    } catch {
      return;
    }
    const text = clean(said.say, MAX_TEXT);
    if (text) this.#on.said(person, text);
    const file = said.file && this.files.offered(peer, said.file);
    if (file) this.#on.offered(person, file);
  }

  /** There and back, to everybody. */
  #measure() {
    for (const person of this.#people.values()) {
      const began = performance.now();
      person.peer.call('__echo__', undefined, { timeout: MEASURE_EVERY }).then(() => {
        person.rtt = performance.now() - began;
      }, () => {
        person.rtt = undefined;
      });
    }
  }
}
