// A Trystero peer, whatever strategy its `joinRoom` has.

import { Connection } from './early.mjs';
import { Meetings, now } from './meetings.mjs';

const joins = [];
const leaves = [];
const errors = [];
const meetings = new Meetings();
let echo;

/** A message may overtake the news that the connection is up. */
function connected(connection) {
  return new Promise((resolve) => {
    const look = () => {
      if (connection.connectionState === 'connected') resolve();
    };
    connection.addEventListener('connectionstatechange', look);
    look();
  });
}

function failed({ error }) {
  errors.push(error);
  console.debug(error);
}

/** What a page of a Trystero strategy offers. */
export const peerOf = ({ joinRoom, selfId }) => ({
  id: () => selfId,

  /** Joins `room` by the servers `urls` and greets whoever appears. Answers the time of the call. */
  join({ urls, room, passive = false }) {
    const at = now();
    const joined = joinRoom(
      { appId: 'peerserver-e2e', relayConfig: { urls }, rtcConfig: { iceServers: [] }, rtcPolyfill: Connection, passive },
      room,
      { onJoinError: failed },
    );
    const greeting = joined.makeAction('greeting', {
      onMessage: async (text, { peerId }) => {
        const at = now();
        await connected(joined.getPeers()[peerId]);
        meetings.of(peerId).resolve({ text, at });
      },
    });
    echo = joined.makeAction('echo', { kind: 'request', onRequest: (text) => `${selfId} heard ${text}` });
    joined.onPeerLeave = (peerId) => leaves.push(peerId);
    joined.onPeerJoin = (peerId) => {
      joins.push(peerId);
      greeting.send(`hello ${peerId} from ${selfId}`, { target: peerId });
    };
    return at;
  },

  /** Resolves with the greeting of `peerId`, once it has come over the data channel. */
  greetedBy: (peerId) => meetings.of(peerId).promise,
  /** Resolves with what `target` answers over the data channel. */
  ask: ({ target, text }) => echo.request(text, { target, timeoutMs: 10_000 }),
  joins: () => joins,
  leaves: () => leaves,
  errors: () => errors,
});
