// The SDK of Peerserver: peers of an app meet on any node, and then talk directly.
//
//   import { join } from '@peerservers/peerserver'
//
//   const room = await join('my-app', { nodes: ['wss://node.example.org'] })
//   room.on('peer', (peer) => peer.send('hello'))
//   room.on('message', (peer, data) => console.log(peer.id, new TextDecoder().decode(data)))

export { type Address, addressOf, addressURL, parseAddress, printAddress } from './address.ts';
export { type Identity, newIdentity } from './crypto.ts';
export { forgetIdentity, keptIdentity } from './identity.ts';
export type { CallOptions } from './asked.ts';
export type { Outcome, Target } from './calls.ts';
export { type Handler, RemoteError, type Request } from './commands.ts';
export type { DiagnoseOptions, Diagnosis, Tried, TriedTurn } from './diagnose.ts';
export { type Code, PeerserverError } from './errors.ts';
export type { Link, Peer } from './peer.ts';
export type { Trouble, TroubleCode } from './troubles.ts';
export type { Path, Server, Transport, Way, WhyNot } from './way.ts';
export type { Sender } from './broadcasts.ts';
export { dial, type DialOptions, listen } from './dial.ts';
export { join, type JoinOptions, type Room } from './room.ts';
