// A peer of our own SDK that tells how it is connected, and counts for the others.

import { join } from '../../../peer/browser/src/index.ts';

const heard = []; // [id, text]
const broadcasts = []; // [id, text]
const events = []; // [event, id, ...]
const counters = new Set();
let room;
let counted = 0;

const shown = ({ id, name, path, open, lost, links, node }) => ({ id, name, path, open, lost, node, links: links.map((link) => ({ id: link.id, path: link.path })) });

globalThis.peer = {
  async join({ urls, app, ...options }) {
    room = await join(app, { nodes: urls, ...options });
    const note = (event) => (peer, more) => events.push([event, peer.id, event === 'path' ? peer.path : more]);
    room.on('peer', note('peer'));
    room.on('leave', note('leave'));
    room.on('path', note('path'));
    room.on('message', (peer, data) => heard.push([peer.id, new TextDecoder().decode(data)]));
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
  stop() {
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
  leave: () => room.leave(),
};
