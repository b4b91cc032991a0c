// A Matchbox client, written from the protocol: those already in the room make offers to whoever comes, all candidates first,
// over one channel that both sides make.

import { Meetings, now } from './meetings.mjs';

const greetings = new Meetings(); // by the other's id
const assigned = new Meetings();
const left = new Meetings();
const told = []; // what the server said, in order
const peers = new Map();
let id;
let socket;

const say = (receiver, data) => socket.send(JSON.stringify({ Signal: { receiver, data } }));

function connect(other) {
  const connection = new RTCPeerConnection({ iceServers: [] });
  const channel = connection.createDataChannel('matchbox_socket_0', { negotiated: true, id: 0, ordered: true });
  channel.binaryType = 'arraybuffer';
  channel.onopen = () => channel.send(new TextEncoder().encode(`hello ${other} from ${id}`));
  channel.onmessage = ({ data }) => {
    const text = new TextDecoder().decode(data);
    if (text === 'are you there') channel.send(new TextEncoder().encode(`${id} is`));
    else if (text.startsWith('hello')) greetings.of(other).resolve({ text, at: now() });
  };
  peers.set(other, { connection, channel });
  return connection;
}

/** The local description, once all candidates are in it. */
async function gathered(connection) {
  while (connection.iceGatheringState !== 'complete') {
    await new Promise((resolve) => connection.addEventListener('icegatheringstatechange', resolve, { once: true }));
  }
  return connection.localDescription.sdp;
}

async function offer(other) {
  const connection = connect(other);
  await connection.setLocalDescription(await connection.createOffer());
  say(other, { Offer: await gathered(connection) });
}

async function signal(sender, data) {
  if (data.Offer) {
    const connection = connect(sender);
    await connection.setRemoteDescription({ type: 'offer', sdp: data.Offer });
    await connection.setLocalDescription(await connection.createAnswer());
    say(sender, { Answer: await gathered(connection) });
  } else if (data.Answer) {
    await peers.get(sender).connection.setRemoteDescription({ type: 'answer', sdp: data.Answer });
  }
}

function hear(event) {
  const [[kind, value]] = Object.entries(event);
  told.push(kind === 'Signal' ? `Signal ${value.sender}` : `${kind} ${value}`);
  if (kind === 'IdAssigned') {
    id = value;
    assigned.of('id').resolve(id);
  } else if (kind === 'NewPeer') {
    offer(value);
  } else if (kind === 'PeerLeft') {
    left.of(value).resolve(now());
  } else if (kind === 'Signal') {
    signal(value.sender, value.data);
  }
}

globalThis.peer = {
  /** Joins the room of `url` and greets whoever appears. Answers the time of the call. */
  join({ url }) {
    const at = now();
    socket = new WebSocket(url);
    socket.onmessage = ({ data }) => hear(JSON.parse(data));
    setInterval(() => socket.readyState === WebSocket.OPEN && socket.send('"KeepAlive"'), 10_000);
    return at;
  },

  id: () => assigned.of('id').promise,
  /** Resolves with the greeting of `other`, once it has come over the data channel. */
  greetedBy: (other) => greetings.of(other).promise,
  /** Resolves when the server says that `other` has left. */
  left: (other) => left.of(other).promise,
  told: () => told,

  /** Resolves with what `other` answers over the data channel. */
  ask(other) {
    const { channel } = peers.get(other);
    return new Promise((resolve) => {
      channel.addEventListener('message', ({ data }) => resolve(new TextDecoder().decode(data)));
      channel.send(new TextEncoder().encode('are you there'));
    });
  },
};
