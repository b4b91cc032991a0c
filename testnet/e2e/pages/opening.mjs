// How long a tab takes from joining to an open channel, with our SDK and with PeerJS.

import { Peer as PeerJS } from 'peerjs';
import { join } from '../../../peer/browser/src/index.ts';

const once = (emitter, event) => new Promise((resolve, reject) => {
  emitter.on(event, resolve);
  emitter.on('error', reject);
});

let end = async () => {};

globalThis.peer = {
  /** Joins and waits for whoever comes. */
  async stay({ nodes, app }) {
    const room = await join(app, { nodes });
    end = () => room.leave();
  },

  /** Milliseconds from joining to the first peer that is connected. */
  async come({ nodes, app }) {
    const began = performance.now();
    const room = await join(app, { nodes });
    if (room.peers.length === 0) await once(room, 'peer');
    const took = performance.now() - began;
    await room.leave();
    return took;
  },

  /** The same with PeerJS, whose peers have to know each other's id. */
  async stayPeerJS({ server, id }) {
    const peer = new PeerJS(id, server);
    await once(peer, 'open');
    end = async () => peer.destroy();
  },

  async comePeerJS({ server, id }) {
    const began = performance.now();
    const peer = new PeerJS(server);
    await once(peer, 'open');
    await once(peer.connect(id), 'open');
    const took = performance.now() - began;
    peer.destroy();
    return took;
  },

  end: () => end(),
};
