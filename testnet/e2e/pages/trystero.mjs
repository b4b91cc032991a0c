// A Trystero peer (torrent strategy), the library as published.

import { joinRoom, selfId } from '@trystero-p2p/torrent';

const now = () => performance.timeOrigin + performance.now();

const joins = [];
const leaves = [];
const errors = [];
const meetings = new Map();
let echo;

function meeting(peerId) {
  if (!meetings.has(peerId)) {
    let resolve;
    const promise = new Promise((r) => {
      resolve = r;
    });
    meetings.set(peerId, { promise, resolve });
  }
  return meetings.get(peerId);
}

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

globalThis.peer = {
  id: () => selfId,

  /** Joins `room` by the trackers `urls` and greets whoever appears. Answers the time of the call. */
  join({ urls, room, passive = false }) {
    const at = now();
    const joined = joinRoom(
      { appId: 'peerserver-e2e', relayConfig: { urls }, rtcConfig: { iceServers: [] }, passive },
      room,
      { onJoinError: ({ error }) => errors.push(error) },
    );
    const greeting = joined.makeAction('greeting', {
      onMessage: async (text, { peerId }) => {
        const at = now();
        await connected(joined.getPeers()[peerId]);
        meeting(peerId).resolve({ text, at });
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
  greetedBy: (peerId) => meeting(peerId).promise,
  /** Resolves with what `target` answers over the data channel. */
  ask: ({ target, text }) => echo.request(text, { target, timeoutMs: 10_000 }),
  joins: () => joins,
  leaves: () => leaves,
  errors: () => errors,
};
