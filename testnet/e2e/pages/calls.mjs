// A peer that has commands and calls those of others, bundled from the source of our own SDK.

import { join, RemoteError } from '../../../peer/browser/src/index.ts';

let room;
const seen = []; // what its handlers have seen

async function join_({ urls, app, name }) {
  room = await join(app, { nodes: urls, name });
  room.handle('m', {
    name: () => name,
    async add(numbers, { progress }) {
      let sum = 0;
      for (const n of numbers) await progress({ sum: (sum += n) });
      return sum;
    },
    async count(n, { send }) {
      for (let i = 0; i < n; i++) await send(i);
    },
    raw: (n) => new Uint8Array(n).fill(7),
    jam() {
      throw new RemoteError('jam', 'paper', [3]);
    },
    wait: (_, { signal }) => new Promise((_resolve, reject) => {
      seen.push('runs');
      signal.addEventListener('abort', () => {
        seen.push('aborted');
        reject(signal.reason);
      });
    }),
  });
}

/** What can be handed out of the page: of bytes their number, and whether all are the first one. */
function plain(value) {
  if (!(value instanceof Uint8Array)) return value ?? null;
  return { bytes: value.length, of: value.every((b) => b === value[0]) ? value[0] : undefined };
}

const failure = ({ name, code, message, data }) => ({ name, code, message, data });

globalThis.peer = {
  join: join_,
  id: () => room.id,
  seen: () => seen,
  /** Resolves when as many are connected. */
  async sees(n) {
    while (room.peers.length < n) await new Promise((resolve) => room.on('peer', resolve));
    return room.peers.map(({ name }) => name).sort();
  },
  /** Calls the peer of a name; `raw` is as many bytes as arguments. */
  async call({ name, path, args, raw, timeout }) {
    const progress = [];
    const [other] = room.peers.filter((one) => one.name === name);
    try {
      const value = await other.call(path, raw ? new Uint8Array(raw).fill(9) : args, { timeout, onProgress: (v) => progress.push(v) });
      return { value: plain(value), progress };
    } catch (err) {
      return { error: failure(err) };
    }
  },
  /** The number of values of a stream that are in order, and what it ended with. */
  async stream({ name, path, args, stopAt }) {
    const [other] = room.peers.filter((one) => one.name === name);
    let n = 0;
    for await (const value of other.stream(path, args)) {
      if (value !== n) return { n, value };
      if (++n === stopAt) break;
      if (n % 1000 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return { n };
  },
  /** Calls all who were there at a time, though one has gone since. */
  async callAll({ path, kept }) {
    const all = await room.call(kept ? globalThis.kept : '*', path);
    return [...all].map(([{ name }, { value, error }]) => (error ? `${name}: ${error.code}` : `${name}: ${JSON.stringify(value)}`)).sort();
  },
  keep: () => void (globalThis.kept = room.peers),
  /** Resolves when there are only as many. */
  async loses(n) {
    while (room.peers.length > n) await new Promise((resolve) => room.on('leave', resolve));
  },
  leave: () => room.leave(),
};
