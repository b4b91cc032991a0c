// A peer of our own SDK that tells how it is connected, and counts for the others.

import { join } from '../../../peer/browser/src/index.ts';
import { ToPeer } from '../../../peer/browser/src/wire.ts';

const heard = []; // [id, text]
const broadcasts = []; // [id, text]
const events = []; // [event, id, ...]
const counters = new Set();
let room;
let counted = 0;
let flooding = false;
let flooded = 0;
const came = { bytes: 0, broken: '', hash: '' }; // of a transfer
const pieces = [];

const shown = ({ id, name, path, way, open, lost, links, node }) => ({ id, name, path, way, open, lost, node, links: links.map((link) => ({ id: link.id, path: link.path })) });

const connections = new Set();
const Usual = globalThis.RTCPeerConnection;
globalThis.RTCPeerConnection = class extends Usual {
  constructor(...args) {
    super(...args);
    connections.add(this);
  }

  close() {
    connections.delete(this);
    super.close();
  }
};

const hashOf = async (all) => [...new Uint8Array(await crypto.subtle.digest('SHA-256', await new Blob(all).arrayBuffer()))]
  .map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** Takes a piece of a transfer, which has its number and the number of all in front. A flood has zeros there. */
function take(piece) {
  const view = new DataView(piece.buffer, piece.byteOffset, piece.length);
  const [i, all] = [view.getUint32(0), view.getUint32(4)];
  if (all === 0) return;
  if (i !== pieces.length) came.broken ||= `piece ${i} comes where ${pieces.length} is due`;
  pieces.push(piece.slice());
  came.bytes += piece.length;
  if (i + 1 === all) hashOf(pieces).then((hash) => (came.hash = hash));
}

/** A WebSocket to a node whose credentials for TURN are good for `ttl` seconds only, as far as the SDK hears. */
const shortLived = (ttl) => class extends WebSocket {
  addEventListener(event, listener, ...more) {
    const hears = ({ data }) => {
      const said = ToPeer.decode(new Uint8Array(data));
      for (const ice of [said.joined?.ice, said.iceServers]) if (ice) ice.ttl = ttl;
      listener({ data: ToPeer.encode(said).slice().buffer });
    };
    super.addEventListener(event, event === 'message' ? hears : listener, ...more);
  }
};

globalThis.peer = {
  async join({ urls, app, ttl, ...options }) {
    room = await join(app, { nodes: urls, ...options, ...(ttl && { webSocket: shortLived(ttl) }) });
    const note = (event) => (peer, more) => events.push([event, peer.id, event === 'path' ? peer.path : more, peer.way?.transport]);
    room.on('peer', note('peer'));
    room.on('leave', note('leave'));
    room.on('path', note('path'));
    room.on('message', (peer, data) => {
      if (data.length < 1000) heard.push([peer.id, new TextDecoder().decode(data)]);
      else {
        flooded += data.length;
        take(data);
      }
    });
    room.on('broadcast', (sender, data) => broadcasts.push([sender.id, new TextDecoder().decode(data)]));
    room.handle('add', ([a, b]) => a + b);
    return room.id;
  },
  state: () => ({ id: room.id, node: room.node, members: room.members, peers: room.peers.map(shown), heard, broadcasts, events, counted }),
  say: (text) => room.broadcast(text).then(() => 'sent', (err) => err.code),
  calls: async (args) => [...(await room.call('*', 'add', args)).values()],
  /** Sends 1, 2, 3 ... to all who are connected, until `stop`. */
  count(every) {
    counters.add(setInterval(() => {
      counted++;
      for (const peer of room.peers) peer.send(String(counted)).catch(() => {});
    }, every));
  },
  /** Sends all that goes, until `stop`. */
  async flood() {
    flooding = true;
    while (flooding) for (const peer of room.peers) await peer.send(new Uint8Array(16_384)).catch(() => {});
  },
  /** Sends `all` pieces to the one peer that there is, `perSecond` of them; answers the hash of them. */
  async transfer({ all, perSecond, size }) {
    const sent = [];
    const began = performance.now();
    for (let i = 0; i < all; i++) {
      const piece = crypto.getRandomValues(new Uint8Array(size));
      const view = new DataView(piece.buffer);
      view.setUint32(0, i);
      view.setUint32(4, all);
      await room.peers[0].send(piece);
      sent.push(piece);
      const early = began + (sent.length * 1000) / perSecond - performance.now();
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    }
    return hashOf(sent);
  },
  /** What has come of a transfer; with the hash when it is all there. */
  came: () => came,
  /** Bytes of others' floods. */
  flooded: () => flooded,
  stop() {
    flooding = false;
    for (const counter of counters) clearInterval(counter);
    counters.clear();
  },
  /** What somebody else has said, as numbers. */
  numbers: (id) => heard.filter(([from]) => from === id).map(([, text]) => Number(text)),
  /** Loses the connection to a peer, as if its network had gone. */
  cut: (id) => room.peers.find((peer) => peer.id === id).connection.close(),
  /** The ICE fragment in use with a peer. */
  fragment: (id) => /a=ice-ufrag:(\S+)/.exec(room.peers.find((peer) => peer.id === id).connection.localDescription.sdp)[1],
  connectionState: (id) => room.peers.find((peer) => peer.id === id).connection.connectionState,
  diagnose: (options) => room.diagnose(options),
  /** How many connections a diagnosis has opened, what it is rejected with when it is ended, and how many it has left. */
  async aborted() {
    const stop = new AbortController();
    const before = connections.size;
    const found = room.diagnose({ signal: stop.signal }).then(() => 'found', (err) => err.name);
    const opened = connections.size - before;
    stop.abort();
    return { opened, found: await found, left: connections.size - before };
  },
  /** How many connections of the browser are there, the diagnosis' too. */
  connections: () => connections.size,
  /** URLs of the servers that a peer's connection uses. */
  servers: (id) => room.peers.find((peer) => peer.id === id).connection.getConfiguration().iceServers.flatMap(({ urls }) => urls),
  leave: () => room.leave(),
};
