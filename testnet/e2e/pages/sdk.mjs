// A peer of our own SDK, bundled from its source.

import { dial, join, keptIdentity, listen } from '../../../peer/browser/src/index.ts';

const now = () => performance.timeOrigin + performance.now();

const peers = [];
const lost = [];
const heard = [];
const nodes = [];
let room;
let received = { bytes: 0, parts: [] };
const iterated = { ids: [], over: false };
const waits = new Set();

async function iterate() {
  for await (const peer of room) iterated.ids.push(peer.id);
  iterated.over = true;
}

function changed() {
  for (const wait of waits) wait();
}

async function until(ready) {
  while (!ready()) {
    await new Promise((resolve) => {
      const wait = () => {
        waits.delete(wait);
        resolve();
      };
      waits.add(wait);
    });
  }
}

function meets(other) {
  peers.push({ id: other.id, name: other.name, at: now() });
  changed();
  other.send(`hello ${other.id} from ${room.id}`);
}

function enters(entered) {
  room = entered;
  iterate();
  nodes.push(room.node);
  room.on('node', (url) => {
    nodes.push(url);
    changed();
  });
  room.on('peer', meets);
  room.on('leave', (other) => {
    lost.push({ id: other.id, at: now() });
    changed();
  });
  room.on('message', (other, data) => {
    if (data.length < 1000) heard.push({ id: other.id, text: new TextDecoder().decode(data), at: now() });
    else {
      received.bytes += data.length;
      received.parts.push(data);
    }
    changed();
  });
}

globalThis.peer = {
  /** Joins and greets whoever is connected. Answers the time of the call. */
  async join({ urls, app, name, secret, kept }) {
    const at = now();
    enters(await join(app, { nodes: urls, name, secret, identity: kept && (await keptIdentity()) }));
    return at;
  },
  /** Can be dialled, at the addresses that it answers. */
  async listen({ urls, name }) {
    enters(await listen({ nodes: urls, name }));
    return room.addresses;
  },
  /** Dials, and greets who is met. Answers the time of the call. */
  async dial({ address, name }) {
    const at = now();
    const other = await dial(address, { name });
    enters(other.room);
    meets(other);
    return at;
  },
  /** Code of the error when an address is dialled. */
  refused: ({ address, timeout }) => dial(address, { timeout }).then(() => 'dialled', (err) => err.code),
  /** Ends what was dialled. */
  closes: () => room.peers[0].close(),
  id: () => room.id,
  /** Resolves when `id` has said something. */
  async hears(id) {
    await until(() => heard.some((h) => h.id === id));
    return heard.find((h) => h.id === id);
  },
  /** Resolves when anybody has said `text`. */
  told: (text) => until(() => heard.some((h) => h.text === text)),
  node: () => room.node,
  /** URLs of the nodes that the page keeps. */
  kept: () => JSON.parse(localStorage.getItem('peerserver.nodes') ?? '[]').map(({ url }) => url),
  /** Says it to all sessions of `id`. */
  sendTo: ({ id, text }) => room.send(id, text),
  peers: () => peers,
  /** Whom the iteration over the room has given, and whether it has ended. */
  iterated: () => iterated,
  async sees(n) {
    await until(() => peers.length >= n);
    return peers;
  },
  /** Why the kept key cannot be taken out. */
  async takesKey() {
    const { key } = await keptIdentity();
    return crypto.subtle.exportKey('pkcs8', key).then(() => 'taken', (err) => err.name);
  },
  async loses(id) {
    await until(() => lost.some((l) => l.id === id));
    return lost.find((l) => l.id === id);
  },
  lost: () => lost,
  /** Resolves when another node than the first is used. */
  async moves() {
    await until(() => nodes.length > 1 && nodes.at(-1) !== undefined);
    return nodes.at(-1);
  },
  /** Resolves when `n` are connected directly. */
  async direct(n) {
    while (room.peers.filter((other) => other.connection?.connectionState === 'connected').length < n) await new Promise((resolve) => setTimeout(resolve, 50));
  },
  /** The SDP of all connections. */
  descriptions: () => room.peers.flatMap(({ connection }) => [connection.localDescription.sdp, connection.remoteDescription.sdp]),
  say: (text) => room.broadcast(text),
  heard: () => heard,
  /** Sends `size` bytes in pieces, and answers their hash. */
  async sends(size) {
    const data = new Uint8Array(size);
    for (let i = 0; i < size; i += 65536) crypto.getRandomValues(data.subarray(i, Math.min(size, i + 65536)));
    const [other] = room.peers;
    for (let i = 0; i < size; i += 60_000) await other.send(data.subarray(i, Math.min(size, i + 60_000)));
    return digest(data);
  },
  async receives(size) {
    await until(() => received.bytes >= size);
    const data = new Uint8Array(received.bytes);
    let at = 0;
    for (const part of received.parts) {
      data.set(part, at);
      at += part.length;
    }
    return digest(data);
  },
  leave: () => room.leave(),
};

async function digest(data) {
  return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', data)), (b) => b.toString(16).padStart(2, '0')).join('');
}
