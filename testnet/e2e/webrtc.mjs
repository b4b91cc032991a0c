// What webrtc-polyfill exports, from libwebrtc; see client.mjs.

import wrtc from '@roamhq/wrtc';

export const { RTCSessionDescription, RTCIceCandidate } = wrtc;

// This libwebrtc repeats its TCP candidates, the more the more connections gather at the same time: over a hundred in each
// offer, and an announce over the 64 KiB that a node takes. Browsers have none of them in a data channel's offer.
const TCP = /^a=candidate:\S+ \d+ tcp .*\r\n/gm;

const withoutTCP = (description) => description && { type: description.type, sdp: description.sdp.replace(TCP, '') };

const seen = {
  get(connection, name) {
    const value = connection[name];
    if (name === 'localDescription') return withoutTCP(value);
    return typeof value === 'function' && !name.startsWith('on') ? value.bind(connection) : value;
  },
  set(connection, name, value) {
    connection[name] = value;
    return true;
  },
};

export class RTCPeerConnection {
  constructor(config) {
    // Its properties are its own and not to be redefined.
    return new Proxy(new wrtc.RTCPeerConnection(config), seen);
  }
}
