// A Trystero peer over a WebSocket relay. The library's own package for that is not on npm; this is the strategy that the
// documentation of its core shows for such a relay, with the core's sockets, which connect again.

import { createTopicStrategy, makeSocket, selfId, toJson } from '@trystero-p2p/core';
import { peerOf } from './trystero-peer.mjs';

const relays = new Map(); // by URL

function relay(url) {
  const heard = new Map(); // what to call, by topic
  const client = makeSocket(url, (frame) => {
    const { topic, payload } = JSON.parse(frame);
    heard.get(topic)?.(topic, payload);
  }, () => heard.forEach((_, topic) => client.send(toJson({ type: 'subscribe', topic }))));
  client.heard = heard;
  return client;
}

const joinRoom = createTopicStrategy({
  init: ({ relayConfig }) => relayConfig.urls.map((url) => {
    if (!relays.has(url)) relays.set(url, relay(url));
    return relays.get(url).ready;
  }),
  subscribeTopic(client, topic, hear) {
    client.heard.set(topic, hear);
    client.send(toJson({ type: 'subscribe', topic }));
    return () => {
      client.heard.delete(topic);
      client.send(toJson({ type: 'unsubscribe', topic }));
    };
  },
  publishTopic: (client, topic, payload) => client.send(toJson({ type: 'publish', topic, payload })),
});

globalThis.peer = peerOf({ joinRoom, selfId });
