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

// Chromium says that a channel made by the other side is open a moment before it is, and loses what is sent until then; so it
// does between two tabs with no library and no server. The library says at once that it is ready, never repeats it, and the
// two are connected and never join. So what is sent early waits until the statistics, which know better, say that it is open.
class Connection extends RTCPeerConnection {
  constructor(...args) {
    super(...args);
    this.addEventListener('datachannel', ({ channel }) => holdUntilOpen(this, channel));
  }
}

async function holdUntilOpen(connection, channel) {
  const early = [];
  channel.send = (data) => void early.push(data);
  while (!(await isOpen(connection, channel))) {
    if (channel.readyState === 'closed') return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  delete channel.send;
  if (channel.readyState === 'open') early.forEach((data) => channel.send(data));
}

async function isOpen(connection, channel) {
  const stats = [...(await connection.getStats()).values()];
  return stats.some((s) => s.type === 'data-channel' && s.dataChannelIdentifier === channel.id && s.state === 'open');
}

function failed({ error }) {
  errors.push(error);
  console.debug(error);
}

globalThis.peer = {
  id: () => selfId,

  /** Joins `room` by the trackers `urls` and greets whoever appears. Answers the time of the call. */
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
