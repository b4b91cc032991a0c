// A client of each door, as the scenes that are the same for all of them play it.

import { reference } from './cluster.mjs';

/**
 * For each door: how a client, its tab and its name, joins a room on a node; when it has; and how it hears another. Only with
 * PeerJS it has to call the other. A private node's address has a prefix, `/t/TOKEN`.
 */
export const DOORS = {
  peerjs: {
    join: ({ tab, name }, { host, port, prefix = '' }) => tab.call('open', { host, port, path: prefix ? `${prefix}/peerjs-server` : '/', chosen: name }),
    joined: ({ tab }) => tab.call('happened', 'open'),
    call: ({ tab }, other) => tab.call('connect', other.name),
    hear: ({ tab }, other) => tab.call('greetedBy', other.name),
  },
  ywebrtc: {
    join: ({ tab, name }, { host, port, prefix = '' }, room) => tab.call('join', { urls: [`ws://${host}:${port}${prefix}/y-webrtc`], room, name }),
    joined: ({ tab }) => tab.signals.frame('sent', '"announce"'),
    hear: ({ tab, name }, other) => tab.call('meets', [name, other.name]),
  },
  wsrelay: {
    join: ({ tab }, { host, port, prefix = '' }, room) => tab.call('join', { urls: [`ws://${host}:${port}${prefix}/ws-relay`], room }),
    joined: ({ tab }) => tab.signals.frame('sent', '"publish"'),
    hear: async ({ tab }, other) => tab.call('greetedBy', await other.tab.call('id')),
  },
  rxdb: {
    join: ({ tab, name }, { host, port, prefix = '' }, room) => tab.call('join', { url: `ws://${host}:${port}${prefix}/rxdb`, room, name }),
    joined: ({ tab }) => tab.signals.frame('received', '"joined"'),
    hear: ({ tab }, other) => tab.call('reads', { id: other.name, text: `${other.name} was here` }),
  },
  matchbox: {
    join: ({ tab }, { host, port, prefix = '' }, room) => tab.call('join', { url: `ws://${host}:${port}${prefix}${reference ? '' : '/matchbox'}/${room}` }),
    joined: ({ tab }) => tab.call('id'),
    hear: async ({ tab }, other) => tab.call('greetedBy', await other.tab.call('id')),
  },
};
