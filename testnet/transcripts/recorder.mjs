// Plays scenes against a reference server and keeps what each of its clients is told, for a door's tests to play again. Ids that the
// server makes up are kept as <name>, by the client whose they are.

import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const packages = createRequire(new URL('../e2e/package.json', import.meta.url));
const { WebSocket } = packages('ws');

const QUIET = 150; // milliseconds after which a server on the same machine has said what it has to say

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** The packages that the browser tests have installed. */
export const require = packages;

/**
 * Plays scenes, each a list of steps: [client, 'open', path], [client, 'send' or 'binary', text] or [client, 'close'].
 * idOf(text) is the id in the message that says who a client is, if that is what it is.
 */
export async function record({ url, about, scenes, idOf, to }) {
  const transcript = { about, scenes: [] };
  for (const { name, steps } of scenes) {
    transcript.scenes.push({ name, steps: await play(url, steps, idOf) });
  }
  await writeFile(to, `${JSON.stringify(transcript, null, 1)}\n`);
}

async function play(url, steps, idOf) {
  const clients = new Map();
  const ids = new Map();
  const fill = (text) => text.replace(/<(\w+)>/g, (all, name) => ids.get(name) ?? all);
  const hide = (text) => [...ids].reduce((now, [name, id]) => now.replaceAll(id, `<${name}>`), text);
  const played = [];
  for (const [client, does, what] of steps) {
    const told = {};
    if (does === 'open') {
      const socket = new WebSocket(url + what);
      clients.set(client, { socket, heard: [] });
      socket.on('message', (data, isBinary) => {
        const text = data.toString();
        const id = idOf(text);
        if (id) ids.set(client, id);
        clients.get(client).heard.push(isBinary ? { binary: text } : { text });
      });
      socket.on('close', (code, reason) => clients.get(client).heard.push({ closed: code, reason: reason.toString() }));
      socket.on('error', (error) => clients.get(client).heard.push({ error: error.message }));
    } else {
      const { socket } = clients.get(client);
      if (does === 'close') socket.close();
      else socket.send(does === 'binary' ? Buffer.from(fill(what)) : fill(what));
    }
    await pause(QUIET);
    for (const [name, one] of clients) {
      if (one.heard.length === 0) continue;
      told[name] = one.heard.map((e) => ('text' in e ? { text: hide(e.text) } : e));
      one.heard = [];
    }
    played.push({ client, [does]: what ?? true, told });
  }
  clients.forEach(({ socket }) => socket.terminate());
  await pause(QUIET);
  return played;
}
