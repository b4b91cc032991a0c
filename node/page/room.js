// The room to try: a form to enter it, then who is here, what is said, and which files are given.

import { offeredCard, ownCard } from './cards.js';
import { Graph, hueOf, initials } from './graph.js';
import { MAX_NAME, MAX_TEXT, Meeting, clean } from './meeting.js';
import { nodeURL } from './use.js';
import { lookWhenOpened } from './visit.js';
import { element, list, newName, newRoom, say } from './words.js';

const MAX_ROOM = 64;
const MAX_SHOWN = 200; // messages

const WAYS = { direct: 'direct', turn: 'through a TURN server', nodes: 'over nodes' };

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
  #meeting;
  #graph;
  #node; // its id
  #at; // URL of the node in use, undefined while there is none

  constructor(root) {
    this.#e = Object.fromEntries([...root.querySelectorAll('[id]')].map((e) => [e.id, e]));
    const e = this.#e;
    e.name.value = newName();
    e.room.value = newRoom();
    this.#invited();
    if (!('RTCPeerConnection' in globalThis)) {
      this.#notice('This browser has no WebRTC, or it is switched off; the room needs it.');
      e.enter.disabled = true;
    }
    const does = (form, what) => form.addEventListener('submit', (event) => {
      event.preventDefault();
      what();
    });
    does(e.join, () => this.#join());
    does(e.talk, () => this.#say());
    e.leave.addEventListener('click', () => this.#leave());
    e.share.addEventListener('click', () => navigator.share({ title: 'A room on peerserver', url: e.link.value }).catch(() => {}));
    e.share.hidden = !navigator.share;
    this.#takesFiles();
    lookWhenOpened(e.mine, () => this.#meeting.diagnose());
    addEventListener('hashchange', () => this.#invited());
    addEventListener('pagehide', () => this.#leave());
  }

  #invited() {
    const room = roomOf(location.hash);
    if (!room || this.#meeting) return;
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
    if (!room || !name || this.#meeting || e.enter.disabled) return;
    e.enter.disabled = true;
    try {
      this.#node = await nodeId();
      this.#graph = new Graph(e.graph);
      this.#meeting = await Meeting.join({ url: nodeURL(), room, name, on: this.#events() });
    } catch (err) {
      this.#notice(`The room cannot be entered: ${err.message}`);
      return;
    } finally {
      e.enter.disabled = false;
    }
    this.#at = nodeURL();
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
    if (!this.#meeting) return;
    this.#meeting.leave();
    this.#meeting = undefined;
    this.#e.mine.open = false;
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
      came: ({ name }) => this.#event(`${name} is here`),
      left: ({ name }, lost) => this.#event(lost ? `the connection to ${name} is lost` : `${name} left`),
      said: (person, text) => {
        this.#graph.pulse(person.id);
        this.#message(person, element('p', 'text', text));
      },
      offered: (person, download) => {
        this.#graph.pulse(person.id);
        this.#message(person, offeredCard(download));
      },
      node: (url) => {
        this.#at = url;
        this.#people();
      },
    };
  }

  #say() {
    const text = clean(this.#e.text.value, MAX_TEXT);
    if (!text) return;
    const to = this.#meeting.say(text);
    for (const { id } of to) this.#graph.pulse(id);
    this.#message(this.#meeting.me, element('p', 'text', text), to.length ? `to ${list(to.map((p) => p.name))}` : 'nobody is here to hear it');
    this.#e.text.value = '';
  }

  #takesFiles() {
    const { files, give, chat } = this.#e;
    const share = (chosen) => {
      for (const file of chosen) this.#message(this.#meeting.me, ownCard(this.#meeting.share(file)));
    };
    give.addEventListener('click', () => files.click());
    files.addEventListener('change', () => {
      share(files.files);
      files.value = '';
    });
    let over = 0; // enter and leave come for each element within
    const shows = (by) => {
      over = Math.max(0, over + by);
      chat.classList.toggle('drop', over > 0);
    };
    chat.addEventListener('dragenter', () => shows(1));
    chat.addEventListener('dragleave', () => shows(-1));
    chat.addEventListener('dragover', (event) => event.preventDefault());
    chat.addEventListener('drop', (event) => {
      event.preventDefault();
      shows(-over);
      share(event.dataTransfer.files);
    });
  }

  // What is known of the room, in words.
  #people() {
    if (!this.#meeting) return;
    const { me } = this.#meeting;
    const people = this.#meeting.people();
    const e = this.#e;
    this.#graph.show(me, people);
    update(e.who, [{ ...me, note: `you · ${this.#where()}` }, ...people.map((p) => ({ ...p, note: this.#noteOf(p) }))]);
    say(e.count, people.length ? `${people.length + 1} people` : 'Only you so far');
    say(e.hint, this.#hint(people.length));
    e.hint.hidden = !e.hint.textContent;
  }

  #where() {
    if (this.#at === nodeURL()) return 'this node';
    return this.#at ? new URL(this.#at).host : 'no node';
  }

  #noteOf({ path, rtt, node, lost }) {
    const took = rtt === undefined ? '' : `, ${rtt < 1 ? '< 1' : Math.round(rtt)} ms`;
    const where = lost || !node ? 'node lost' : node === this.#node ? 'this node' : `node ${node.slice(0, 6)}`;
    return `${WAYS[path] ?? path}${took} · ${where}`;
  }

  #hint(open) {
    if (!this.#at) {
      const going = open ? ' Those who are here stay connected: what you say does not go through the node.' : '';
      return `The node does not answer; trying again, and others.${going}`;
    }
    if (open < this.#meeting.others) return 'Somebody is here; connecting …';
    if (open === 0) return 'Open the link below in another window or send it to somebody, or enter the same room on any other node.';
    return '';
  }

  #event(text) {
    this.#add(element('p', 'event', text));
  }

  #message(person, what, note) {
    const mine = person.id === this.#meeting.me.id;
    const item = element('div', mine ? 'message mine' : 'message');
    item.style.setProperty('--hue', hueOf(person.id));
    const face = element('span', 'face', initials(person.name));
    face.ariaHidden = 'true';
    const body = element('div', 'body');
    body.append(element('b', 'name', mine ? 'You' : person.name), what);
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
    say(li.children[0], initials(p.name));
    say(li.children[1], p.name);
    say(li.children[2], p.note);
  });
  for (const li of items.values()) li.remove();
}

// Which node this is.
async function nodeId() {
  try {
    const answer = await fetch('.well-known/peerserver', { signal: AbortSignal.timeout(3000) });
    return (await answer.json()).node;
  } catch {
    return undefined;
  }
}
