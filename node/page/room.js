// The room to try: a form to enter it, then who is here and what is said.

import { Graph, hueOf, initials } from './graph.js';
import { MAX_NAME, MAX_PEOPLE, Mesh, clean } from './mesh.js';
import { nodeURL } from './use.js';

const MAX_ROOM = 64;
const MAX_SHOWN = 200; // messages

const ADJECTIVES = ['amber', 'brave', 'calm', 'clever', 'early', 'gentle', 'golden', 'lucky', 'merry', 'misty', 'quiet', 'silver', 'sunny', 'swift', 'tidy', 'wise'];
const ANIMALS = ['badger', 'crane', 'dolphin', 'falcon', 'fox', 'hare', 'heron', 'lynx', 'marten', 'otter', 'owl', 'panda', 'robin', 'seal', 'swan', 'wren'];
const PLACES = ['bay', 'bridge', 'cabin', 'cove', 'field', 'forest', 'garden', 'harbour', 'hill', 'island', 'lake', 'meadow', 'orchard', 'pier', 'river', 'valley'];

const pick = (list) => list[Math.floor(Math.random() * list.length)];
const capital = (word) => word[0].toUpperCase() + word.slice(1);

/** The room that a link names. */
function roomOf(hash) {
  try {
    return clean(new URLSearchParams(hash.slice(1)).get('room') ?? '', MAX_ROOM);
  } catch {
    return '';
  }
}

export class Room {
  #e; // elements by id
  #mesh;
  #me;
  #graph;
  #state = 'connecting';
  #others = 0;
  #unreachable = false;

  constructor(root) {
    this.#e = Object.fromEntries([...root.querySelectorAll('[id]')].map((e) => [e.id, e]));
    const e = this.#e;
    e.name.value = `${capital(pick(ADJECTIVES))} ${capital(pick(ANIMALS))}`;
    e.room.value = `${pick(ADJECTIVES)}-${pick(PLACES)}-${Math.floor(10 + 90 * Math.random())}`;
    this.#invited();
    if (!('RTCPeerConnection' in globalThis)) {
      this.#notice('This browser has no WebRTC, or it is switched off; the room needs it.');
      e.enter.disabled = true;
    }
    e.join.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#join();
    });
    e.talk.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#say();
    });
    e.leave.addEventListener('click', () => this.#leave());
    e.share.addEventListener('click', () => navigator.share({ title: 'A room on peerserver', url: e.link.value }).catch(() => {}));
    e.share.hidden = !navigator.share;
    addEventListener('hashchange', () => this.#invited());
    addEventListener('pagehide', () => this.#leave());
  }

  #invited() {
    const room = roomOf(location.hash);
    if (!room || this.#mesh) return;
    this.#e.room.value = room;
    this.#notice(`You are invited to the room “${room}”.`);
    this.#e.try.scrollIntoView({ block: 'start' });
  }

  #notice(text) {
    this.#e.notice.textContent = text;
    this.#e.notice.hidden = !text;
  }

  async #join() {
    const e = this.#e;
    const room = clean(e.room.value, MAX_ROOM);
    const name = clean(e.name.value, MAX_NAME);
    if (!room || !name || this.#mesh) return;
    e.enter.disabled = true;
    try {
      this.#mesh = await Mesh.join({ url: nodeURL(), room, name, iceServers: await iceServers(), on: this.#events() });
    } catch {
      this.#notice('The room cannot be opened in this browser.');
      e.enter.disabled = false;
      return;
    }
    e.enter.disabled = false;
    this.#me = { id: this.#mesh.id, name };
    this.#graph = new Graph(e.graph);
    history.replaceState(null, '', `#${new URLSearchParams({ room })}`);
    e.link.value = location.href;
    e.title.textContent = room;
    e.log.replaceChildren();
    this.#notice('');
    this.#show(true);
    this.#people();
    e.text.focus({ preventScroll: true });
  }

  #leave() {
    if (!this.#mesh) return;
    this.#mesh.leave();
    this.#mesh = undefined;
    this.#others = 0;
    this.#unreachable = false;
    this.#show(false);
    this.#e.enter.focus({ preventScroll: true });
  }

  #show(inside) {
    this.#e.join.hidden = inside;
    this.#e.inside.hidden = !inside;
  }

  #events() {
    return {
      people: () => this.#people(),
      came: ({ name }) => this.#event(`${name} is here, connected directly to you`),
      left: ({ name }) => this.#event(`${name} left`),
      said: ({ person, text }) => {
        this.#graph.pulse(person.id);
        this.#message(person, text);
      },
      node: (state) => {
        this.#state = state;
        this.#people();
      },
      others: (n) => {
        this.#others = n;
        this.#people();
      },
      unreachable: () => {
        this.#unreachable = true;
        this.#people();
      },
    };
  }

  #say() {
    const text = clean(this.#e.text.value, this.#e.text.maxLength);
    if (!text) return;
    const to = this.#mesh.say(text);
    for (const { id } of to) this.#graph.pulse(id);
    this.#message(this.#me, text, to.length ? `directly to ${list(to.map((p) => p.name || '…'))}` : 'nobody is here to hear it');
    this.#e.text.value = '';
  }

  // What is known of the room, in words.
  #people() {
    if (!this.#mesh) return;
    const people = this.#mesh.people().filter((p) => p.state === 'connecting' || p.name);
    const open = people.filter((p) => p.state === 'open');
    const e = this.#e;
    this.#graph.show(this.#me, people);
    update(e.who, [{ ...this.#me, note: 'you' }, ...people.map((p) => ({ ...p, note: noteOf(p) }))]);
    say(e.count, open.length ? `${open.length + 1} people, connected directly` : 'Only you so far');
    say(e.hint, this.#hint(open.length));
    e.hint.hidden = !e.hint.textContent;
  }

  #hint(open) {
    if (this.#state !== 'open') {
      const going = open ? ' Those who are here stay connected: what you say does not go through the node.' : '';
      return `${this.#state === 'waiting' ? 'The node does not answer; trying again.' : 'Reaching the node …'}${going}`;
    }
    if (open === 0 && this.#others >= MAX_PEOPLE) return `${this.#others} others are in this room; it holds ${MAX_PEOPLE}. Try another name.`;
    if (open < this.#others && this.#unreachable) {
      return 'Somebody is here, but your networks let no direct connection through. Elsewhere a TURN server would help.';
    }
    if (open < this.#others) return 'Somebody is here; connecting …';
    if (open === 0) return 'Open the link below in another window or send it to somebody, or enter the same room on any other node.';
    return '';
  }

  #event(text) {
    this.#add(element('p', 'event', text));
  }

  #message(person, text, note) {
    const item = element('div', person === this.#me ? 'message mine' : 'message');
    item.style.setProperty('--hue', hueOf(person.id));
    const face = element('span', 'face', initials(person.name));
    face.ariaHidden = 'true';
    const body = element('div', 'body');
    body.append(element('b', 'name', person === this.#me ? 'You' : person.name), element('p', 'text', text));
    if (note) body.append(element('small', 'note', note));
    item.append(face, body);
    this.#add(item);
  }

  #add(item) {
    const log = this.#e.log;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    log.append(item);
    while (log.children.length > MAX_SHOWN) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
}

function element(tag, className, text = '') {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

// Only what changed, so that a screen reader does not hear the rest again.
function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

function update(ul, people) {
  const items = new Map([...ul.children].map((li) => [li.dataset.id, li]));
  people.forEach((p, i) => {
    let li = items.get(p.id);
    items.delete(p.id);
    if (!li) {
      li = element('li', 'person');
      li.dataset.id = p.id;
      const face = element('span', 'face');
      face.ariaHidden = 'true';
      li.append(face, element('span', 'name'), element('small', 'note'));
    }
    if (ul.children[i] !== li) ul.insertBefore(li, ul.children[i] ?? null);
    li.style.setProperty('--hue', hueOf(p.id));
    li.classList.toggle('waiting', p.state === 'connecting');
    say(li.children[0], initials(p.name));
    say(li.children[1], p.name || 'somebody');
    say(li.children[2], p.note);
  });
  for (const li of items.values()) li.remove();
}

function noteOf({ state, rtt, path }) {
  if (state !== 'open') return 'connecting …';
  const way = path === 'relay' ? 'through a relay' : 'direct';
  return rtt === undefined ? way : `${way}, ${rtt < 1 ? '< 1' : Math.round(rtt)} ms`;
}

function list(names) {
  return new Intl.ListFormat('en').format(names);
}

// What the node offers for connections that need help: nothing, or its STUN port.
async function iceServers() {
  try {
    const answer = await fetch('.well-known/peerserver', { signal: AbortSignal.timeout(3000) });
    const port = Number((await answer.json()).stun_port);
    return port > 0 && port < 65_536 ? [{ urls: `stun:${location.hostname}:${port}` }] : [];
  } catch {
    return [];
  }
}
