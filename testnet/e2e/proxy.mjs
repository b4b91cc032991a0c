// A door in front of a server: one address that stays while the server behind it goes away and another comes.

import { createServer, connect } from 'node:net';
import { once } from 'node:events';

/** Listens on a free port and passes bytes to the server of the WebSocket URL `url`. */
export async function openDoor(url) {
  let target = new URL(url);
  const sockets = new Set();
  const keep = (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
  };
  const server = createServer((outer) => {
    const inner = connect(Number(target.port), target.hostname);
    keep(outer);
    keep(inner);
    inner.on('close', () => outer.destroy());
    outer.on('close', () => inner.destroy());
    outer.pipe(inner).pipe(outer);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `ws://127.0.0.1:${server.address().port}`,
    /** New connections go to `next`; those that exist are cut. */
    leadTo: (next) => {
      target = new URL(next);
      for (const socket of sockets) socket.destroy();
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => server.close(done));
    },
  };
}
