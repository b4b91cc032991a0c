// A node in hostile hands, as far as its clients can tell: a WebSocket proxy that keeps every frame, and that may do with what
// the node says to them as it likes. mischief.mjs has what that may be.

import { EventEmitter, once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { WebSocket, WebSocketServer } from 'ws';

/** The SDK's own: messages of the native door, and envelopes. */
export const { wire, crypto } = await sdk();

/**
 * Listens on a free port for clients of the node `url`. `mischief(frame, pass, tap)` is called for each frame of the node: it may
 * `pass(bytes)` to the client now, later, often or never. A frame has its `bytes`, what the node `said`, and for a signal its
 * `kind` and what its `envelope` and `body` are. Emits 'signal' with each frame that is one, after `mischief` had it.
 */
export async function openTap(url, mischief = ({ bytes }, pass) => pass(bytes)) {
  const tap = new Tap(url, mischief);
  await tap.listening;
  return tap;
}

class Tap extends EventEmitter {
  /** All frames, of both directions. */
  frames = [];
  /** How often a client has come. */
  clients = 0;
  /** How many signals of each kind the node gave to clients. */
  signals = Object.fromEntries(Object.keys(wire.Kind).map((kind) => [kind, 0]));
  /** The key that signals for a client are sealed to, by member in hex. */
  seals = new Map();
  mischief;
  #server;
  #sockets = new Set();

  constructor(url, mischief) {
    super();
    this.mischief = mischief;
    this.#server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
    this.listening = once(this.#server, 'listening');
    this.#server.on('connection', (client, request) => {
      this.clients += 1;
      // A client's login is for the host that it dialled, so the node has to be told that one.
      const node = new WebSocket(url + request.url, client.protocol, { headers: { host: request.headers.host }, perMessageDeflate: false });
      const opened = once(node, 'open');
      opened.catch(() => {});
      for (const [socket, other] of [[client, node], [node, client]]) {
        this.#sockets.add(socket);
        socket.on('error', () => socket.terminate());
        socket.on('close', () => {
          this.#sockets.delete(socket);
          other.terminate();
        });
      }
      client.on('message', async (bytes) => {
        this.#asked(bytes);
        await opened.catch(() => {});
        if (node.readyState === WebSocket.OPEN) node.send(bytes);
      });
      node.on('message', (bytes) => this.#said(bytes, (some) => client.readyState === WebSocket.OPEN && client.send(some)));
    });
  }

  get url() {
    return `ws://127.0.0.1:${this.#server.address().port}`;
  }

  async close() {
    for (const socket of this.#sockets) socket.terminate();
    await new Promise((done) => this.#server.close(done));
  }

  #asked(bytes) {
    this.frames.push(bytes);
    const presence = wire.ToNode.decode(bytes).join?.presence;
    if (!presence) return;
    const { session, seal } = wire.PresenceBody.decode(presence.body);
    this.seals.set(Buffer.concat([presence.key, session]).toString('hex'), seal);
  }

  #said(bytes, pass) {
    this.frames.push(bytes);
    const frame = read(bytes);
    this.mischief(frame, pass, this);
    if (!frame.kind) return;
    this.signals[frame.kind] += 1;
    this.emit('signal', frame);
  }
}

function read(bytes) {
  const said = wire.ToPeer.decode(bytes);
  const envelope = said.delivered?.envelope;
  const body = envelope && wire.EnvelopeBody.decode(envelope.body);
  return { bytes, said, envelope, body, kind: body && Object.keys(wire.Kind).find((name) => wire.Kind[name] === body.kind) };
}

async function sdk() {
  const folder = fileURLToPath(new URL('../../peer/browser/src', import.meta.url));
  const stdin = { contents: "export * as wire from './wire.ts'; export * as crypto from './crypto.ts'", resolveDir: folder };
  const { outputFiles: [file] } = await build({ stdin, bundle: true, format: 'esm', platform: 'node', write: false, logLevel: 'error' });
  return import(`data:text/javascript;base64,${Buffer.from(file.contents).toString('base64')}`);
}
