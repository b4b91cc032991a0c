// A P2PT peer, the library as published.

import P2PT from 'p2pt';

const now = () => performance.timeOrigin + performance.now();

const greetings = [];
let greeted;
const firstGreeting = new Promise((resolve) => {
  greeted = resolve;
});
let peer;

globalThis.peer = {
  /** Joins `room` by the trackers `urls` and greets whoever appears. Answers the time of the call. */
  async join({ urls, room }) {
    const at = now();
    peer = new P2PT(urls, room);
    peer.on('peerconnect', (other) => peer.send(other, `hello ${other.id} from ${peer._peerId}`));
    peer.on('msg', (other, text) => {
      greetings.push(text);
      greeted({ text, id: other.id, at: now() });
    });
    await peer.start();
    return at;
  },
  id: () => peer._peerId,
  greeted: () => firstGreeting,
  greetings: () => greetings,
};
