// The reference server of each door's library, as its package has it. Two have none on npm: a relay for Trystero is made here of
// what the library's own documentation says of one, and Matchbox's is a Rust program that E2E_MATCHBOX may name; without it what
// its clients expect is made here.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { PeerServer } from 'peer';
import { startSignalingServerSimplePeer } from 'rxdb/plugins/replication-webrtc';
import { WebSocketServer } from 'ws';
import { Program } from './program.mjs';
import { within } from './wait.mjs';

const READY_WITHIN = 30_000;
const HOST = '127.0.0.1';

/** For each door: starts its reference server on a port, answers how to end it at once. */
export const references = { peerjs, ywebrtc, wsrelay, rxdb, matchbox };

async function peerjs(port) {
  const sockets = new Set();
  let server;
  await within(READY_WITHIN, 'the server of PeerJS listens', new Promise((done) => {
    PeerServer({ port, host: HOST, path: '/', allow_discovery: true }, (listening) => {
      server = listening;
      done();
    });
  }));
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  return async () => {
    sockets.forEach((socket) => socket.destroy());
    await new Promise((done) => server.close(done));
  };
}

async function ywebrtc(port) {
  const script = fileURLToPath(new URL('node_modules/y-webrtc/bin/server.js', import.meta.url));
  return program(process.execPath, [script], { PORT: `${port}` });
}

async function rxdb(port) {
  return ends((await startSignalingServerSimplePeer({ port, host: HOST })).server);
}

async function wsrelay(port) {
  const server = new WebSocketServer({ port, host: HOST });
  const topics = new Map();
  server.on('connection', (socket) => {
    socket.on('message', (frame) => {
      const { type, topic, payload } = JSON.parse(frame);
      if (!topics.has(topic)) topics.set(topic, new Set());
      if (type === 'subscribe') topics.get(topic).add(socket);
      if (type === 'unsubscribe') topics.get(topic).delete(socket);
      if (type === 'publish') topics.get(topic).forEach((other) => other.send(JSON.stringify({ topic, payload })));
    });
    socket.on('close', () => topics.forEach((subscribers) => subscribers.delete(socket)));
  });
  return ends(server);
}

async function matchbox(port) {
  if (process.env.E2E_MATCHBOX) return program(process.env.E2E_MATCHBOX, [`${HOST}:${port}`], { RUST_LOG: 'info' });
  const server = new WebSocketServer({ port, host: HOST });
  const rooms = new Map();
  server.on('connection', (socket, { url }) => {
    const say = (to, event) => to?.send(JSON.stringify(event));
    const id = randomUUID();
    if (!rooms.has(url)) rooms.set(url, new Map());
    const room = rooms.get(url);
    say(socket, { IdAssigned: id });
    room.forEach((other) => say(other, { NewPeer: id }));
    room.set(id, socket);
    socket.on('message', (frame) => {
      const { Signal } = JSON.parse(frame);
      if (Signal) say(room.get(Signal.receiver), { Signal: { sender: id, data: Signal.data } });
    });
    socket.on('close', () => {
      room.delete(id);
      room.forEach((other) => say(other, { PeerLeft: id }));
    });
  });
  return ends(server);
}

async function ends(server) {
  await within(READY_WITHIN, 'a reference server listens', server.address() ? Promise.resolve() : once(server, 'listening'));
  return async () => {
    server.clients.forEach((socket) => socket.terminate());
    await new Promise((done) => server.close(done));
  };
}

async function program(command, args, env) {
  const server = new Program(command, args, { env });
  await server.line(READY_WITHIN, `${command} listens`);
  return () => server.kill();
}
