// A PeerJS peer, the library as published.

import { Peer } from 'peerjs';
import { Connection } from './early.mjs';
import { Meetings, now } from './meetings.mjs';

// Without it one greeting in some hundred is lost, with the library's own server too: see early.mjs.
globalThis.RTCPeerConnection = Connection;

const config = { iceServers: [] };
const greetings = new Meetings(); // by the other's id
const calls = new Meetings(); // by the other's id
const errors = []; // of what type, and when
const happened = new Meetings(); // the first error of a type, and other events by name
const connections = new Map(); // the newest, by the other's id
let id;
let me;

function keep(connection) {
  connections.set(connection.peer, connection);
  connection.on('open', () => connection.send(`hello ${connection.peer} from ${id}`));
  connection.on('data', (text) => {
    if (text.startsWith('are you there')) connection.send(`${id} is`);
    else greetings.of(connection.peer).resolve({ text, at: now() });
  });
}

async function keepCall(call) {
  const stream = await new Promise((resolve) => {
    call.on('stream', resolve);
  });
  calls.of(call.peer).resolve({ call, stream });
}

/** A picture and a sound of this machine's fake devices. */
function devices() {
  return navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240, frameRate: 10 }, audio: true });
}

/** Plays the stream; resolves when some of both its picture and its sound has come, and answers how much. */
async function plays(stream, connection) {
  const video = document.body.appendChild(document.createElement('video'));
  video.srcObject = stream;
  video.muted = true;
  await video.play();
  for (;;) {
    const stats = [...(await connection.getStats()).values()].filter((s) => s.type === 'inbound-rtp');
    const frames = stats.find((s) => s.kind === 'video')?.framesDecoded ?? 0;
    const packets = stats.find((s) => s.kind === 'audio')?.packetsReceived ?? 0;
    if (frames > 5 && packets > 10 && video.videoWidth > 0) return { frames, packets };
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

globalThis.peer = {
  /** Opens a peer as its user writes it, under a chosen id or, without one, an id of the server. Answers the id and the time of the call. */
  async open({ chosen, ...options }) {
    const at = now();
    me = chosen ? new Peer(chosen, { config, ...options }) : new Peer({ config, ...options });
    me.on('connection', keep);
    me.on('call', async (call) => {
      keepCall(call);
      call.answer(await devices());
    });
    me.on('open', () => happened.of('open').resolve());
    me.on('disconnected', () => happened.of('disconnected').resolve());
    me.on('error', ({ type, message }) => {
      console.debug(`${type}: ${message}`);
      errors.push({ type, at: now() });
      happened.of(type).resolve(now());
    });
    await happened.of('open').promise;
    id = me.id;
    return { id, at, took: now() - at };
  },

  /** Connects to `other` and greets it when the channel is open. Answers the time of the call. */
  connect(other) {
    const at = now();
    keep(me.connect(other));
    return at;
  },

  /** Resolves with the greeting of `other`, once it has come over the data channel. */
  greetedBy: (other) => greetings.of(other).promise,

  /** Resolves with what `other` answers over the data channel that is open. */
  ask(other) {
    const connection = connections.get(other);
    return new Promise((resolve) => {
      connection.on('data', resolve);
      connection.send('are you there');
    });
  },

  /** Calls `other` with picture and sound. Answers the time of the call. */
  async call(other) {
    const stream = await devices();
    const at = now();
    keepCall(me.call(other, stream));
    return at;
  },

  /** Resolves with what has come of the picture and the sound of `other`. */
  async sees(other) {
    const { call, stream } = await calls.of(other).promise;
    const got = await plays(stream, call.peerConnection);
    return { ...got, at: now(), tracks: stream.getTracks().map((track) => `${track.kind} ${track.readyState}`).sort() };
  },

  /** Whether a peer of this id opens; one that does not is thrown away. */
  tries({ chosen, ...options }) {
    const one = new Peer(chosen, { config, ...options });
    return new Promise((resolve) => {
      one.on('open', () => resolve(true));
      one.on('error', () => resolve(false));
    });
  },

  disconnect() {
    me.disconnect();
  },

  /** Comes back under the same id. Answers the time of the call. */
  reconnect() {
    const at = now();
    const open = new Promise((resolve) => {
      me.once('open', resolve);
    });
    me.reconnect();
    return open.then((back) => ({ id: back, at, took: now() - at }));
  },

  /** Resolves at the first error of this type, or the first 'open' or 'disconnected'; answers when it was for an error. */
  happened: (what) => happened.of(what).promise,
  errors: () => errors,
  destroyed: () => me.destroyed,
  list: () => new Promise((resolve) => {
    me.listAllPeers(resolve);
  }),
};
