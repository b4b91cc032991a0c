// A page without a WebRTC library: it shows which tabs hear each other through BroadcastChannel.

const channel = new BroadcastChannel('peers');
const heard = [];
const waiting = new Map();

channel.onmessage = ({ data }) => {
  heard.push(data);
  waiting.get(data)?.();
};

globalThis.peer = {
  say: (word) => channel.postMessage(word),
  heard: () => heard,
  hears: (word) => new Promise((resolve) => {
    if (heard.includes(word)) resolve();
    else waiting.set(word, resolve);
  }),
  /** Loads the SDK that a node serves, joins, and answers what the first other peer says. */
  async meets({ sdk, nodes, app, says }) {
    const { join } = await import(sdk);
    const room = await join(app, { nodes });
    room.on('peer', (peer) => peer.send(says));
    return new Promise((resolve) => room.on('message', (peer, data) => resolve(new TextDecoder().decode(data))));
  },
};
