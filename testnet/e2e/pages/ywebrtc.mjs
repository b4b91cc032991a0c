// A Yjs document that y-webrtc shares, the libraries as published.

import { WebrtcProvider } from 'y-webrtc';
import * as Y from 'yjs';
import { now } from './meetings.mjs';

let offered;
const offers = new Promise((resolve) => {
  offered = resolve;
});
const { createOffer } = RTCPeerConnection.prototype;
RTCPeerConnection.prototype.createOffer = function tell(...args) {
  offered();
  return createOffer.apply(this, args);
};

const doc = new Y.Doc();
const text = doc.getText('text');
const words = doc.getMap('words');
let provider;

/** Resolves when `done` says so; it is asked after each change of the document, of who is there and of their connections. */
function until(done) {
  return new Promise((resolve) => {
    const look = () => {
      const answer = done();
      if (answer) resolve(answer);
    };
    doc.on('update', look);
    provider.awareness.on('change', look);
    look();
  });
}

const names = () => [...provider.awareness.getStates().values()].map(({ user }) => user?.name).sort();

globalThis.peer = {
  /** Shares the document in `room` by the servers `urls`, with a word of its own in it. Answers the time of the call. */
  join({ urls, room, name, password }) {
    const at = now();
    words.set(name, 'before');
    text.insert(0, `${name} was here. `);
    provider = new WebrtcProvider(room, doc, {
      signaling: urls,
      password,
      // Otherwise tabs of one browser may meet without any server.
      filterBcConns: false,
      peerOpts: { config: { iceServers: [] } },
    });
    provider.awareness.setLocalStateField('user', { name });
    return at;
  },

  /** Resolves when the document has the word of each of `all` and each is seen to be there. */
  meets: (all) => until(() => all.every((name) => words.has(name) && names().includes(name)) && { at: now(), text: text.toString() }),

  write({ word, value }) {
    words.set(word, value);
  },

  /** Resolves when somebody has written `value`. */
  reads: ({ word, value }) => until(() => words.get(word) === value && { at: now() }),

  text: () => text.toString(),
  names,
  /** Resolves when this tab has made an offer. */
  offers: () => offers,
};
