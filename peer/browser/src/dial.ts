// Peers that can be dialled. One that listens is a member of the app that is named after its id, and has an address; who dials that
// joins the same app, on the node that the address names, and has to do with that peer alone.

import { addressURL, parseAddress } from './address.ts';
import { printed } from './bytes.ts';
import { newIdentity } from './crypto.ts';
import { PeerserverError } from './errors.ts';
import type { Peer } from './peer.ts';
import { joinAs, type JoinOptions, type Room } from './room.ts';

const MET_WITHIN = 30_000;

export interface DialOptions extends Omit<JoinOptions, 'nodes'> {
  /** In how many milliseconds the peer has to be met; 30,000 by default. */
  readonly timeout?: number;
}

/** Makes this peer one that can be dialled, at its `addresses`. With a kept identity they stay the same. */
export async function listen(options: JoinOptions): Promise<Room> {
  const identity = options.identity ?? (await newIdentity());
  return joinAs(printed(identity.id), { ...options, identity }, { listens: true });
}

/**
 * Connects to the peer at an address, and to nobody else. What it says are events of `peer.room`; `peer.close()` ends it. Rejected with
 * a code: `malformed` for an address that is none, `denied` for another node than it names, `unknown_peer` when the peer is not met.
 *
 * @example
 * const peer = await dial('/dns4/node.example.org/tcp/443/wss/p2p-webrtc-signal/…/p2p/…')
 * await peer.send('it is me')
 */
export async function dial(address: string, options: DialOptions = {}): Promise<Peer> {
  const at = parseAddress(address);
  const { timeout = MET_WITHIN, signal } = options;
  const room = await joinAs(at.peer, { ...options, nodes: [addressURL(at)] }, { only: at });
  try {
    return await met(room, timeout, `${at.peer.slice(0, 8)} was not met on its node; does it listen there?`);
  } catch (err) {
    await room.leave();
    throw signal?.aborted ? signal.reason : err;
  }
}

function met(room: Room, within: number, otherwise: string): Promise<Peer> {
  const [peer] = room.peers;
  if (peer) return Promise.resolve(peer);
  return new Promise((resolve, reject) => {
    const fail = () => reject(new PeerserverError('unknown_peer', otherwise));
    const timer = setTimeout(fail, within);
    const offs = [room.on('peer', resolve), room.on('left', fail)];
    const stop = () => {
      clearTimeout(timer);
      for (const off of offs) off();
    };
    room.on('peer', stop);
    room.on('left', stop);
  });
}
