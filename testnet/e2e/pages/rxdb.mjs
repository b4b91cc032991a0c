// An RxDB database that replicates by WebRTC, the library as published.

// The library's documentation has browsers define it.
globalThis.process = { env: {}, nextTick: (run, ...args) => setTimeout(() => run(...args)) };

import { createRxDatabase, addRxPlugin } from 'rxdb';
import { getConnectionHandlerSimplePeer, replicateWebRTC } from 'rxdb/plugins/replication-webrtc';
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory';
import { now } from './meetings.mjs';

const schema = {
  version: 0,
  primaryKey: 'id',
  type: 'object',
  properties: { id: { type: 'string', maxLength: 100 }, text: { type: 'string' } },
  required: ['id', 'text'],
};

let notes;
let replication;

globalThis.peer = {
  /** Replicates in `room` by the server `url`, with a note of its own. Answers the time of the call. */
  async join({ url, room, name }) {
    const database = await createRxDatabase({ name, storage: getRxStorageMemory() });
    ({ notes } = await database.addCollections({ notes: { schema } }));
    await notes.insert({ id: name, text: `${name} was here` });
    const at = now();
    replication = await replicateWebRTC({
      collection: notes,
      topic: room,
      connectionHandlerCreator: getConnectionHandlerSimplePeer({ signalingServerUrl: url, config: { iceServers: [] } }),
      pull: {},
      push: {},
    });
    replication.error$.subscribe((err) => console.debug(err.message));
    return at;
  },

  write: ({ id, text }) => notes.upsert({ id, text }),

  /** Resolves when a note with this id has this text. */
  async reads({ id, text }) {
    await new Promise((resolve) => {
      notes.findOne(id).$.subscribe((note) => note?.text === text && resolve());
    });
    return { at: now() };
  },

  peers: () => replication.peerStates$.getValue().size,
};
