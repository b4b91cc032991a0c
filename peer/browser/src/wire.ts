// The messages of the native door, as in protocol/peerserver.proto: there is what they mean.

import { Message, type Value as Decoded } from './codec.ts';

export const SignedRecord = new Message({ key: [1, 'bytes'], seq: [2, 'int64'], value: [3, 'bytes'], signature: [4, 'bytes'] });
export const RecordBody = new Message({
  version: [1, 'uint32'], ttl: [2, 'uint32'], urls: [3, 'string', 'list'], stunPort: [4, 'uint32'], turnPort: [5, 'uint32'], load: [6, 'uint32'],
});

export const Challenge = new Message({ version: [1, 'uint32'], node: [2, 'bytes'], nonce: [3, 'bytes'] });
export const Login = new Message({ key: [1, 'bytes'], url: [2, 'string'], nonce: [3, 'bytes'], signature: [4, 'bytes'] });
export const Welcome = new Message({ nodes: [1, SignedRecord, 'list'], signature: [2, 'bytes'] });

export const SignedPresence = new Message({ key: [1, 'bytes'], body: [2, 'bytes'], signature: [3, 'bytes'] });
export const PresenceBody = new Message({
  app: [1, 'bytes'], session: [2, 'bytes'], seal: [3, 'bytes'], issued: [4, 'int64'], ttl: [5, 'uint32'],
  name: [6, 'string'], services: [7, 'string', 'list'], metadata: [8, 'bytes'],
});

export const Envelope = new Message({ body: [1, 'bytes'], signature: [2, 'bytes'] });
export const EnvelopeBody = new Message({
  app: [1, 'bytes'], from: [2, 'bytes'], to: [3, 'bytes'], sequence: [4, 'uint64'], kind: [5, 'uint32'], enc: [6, 'bytes'], sealed: [7, 'bytes'],
});

export const Kind = { offer: 1, answer: 2, candidates: 3, message: 4, data: 5, bye: 6, broadcast: 7 } as const;

export const Join = new Message({ app: [1, 'bytes'], presence: [2, SignedPresence] });
export const IceServer = new Message({ urls: [1, 'string', 'list'], username: [2, 'string'], credential: [3, 'string'] });
export const IceServers = new Message({ servers: [1, IceServer, 'list'], ttl: [2, 'uint32'] });
export const Joined = new Message({ members: [1, 'uint32'], resumed: [2, 'bool'], ice: [3, IceServers] });
export const Part = new Message({ app: [1, 'bytes'], session: [2, 'bytes'] });
export const Send = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], to: [3, 'bytes'], envelope: [4, Envelope], data: [5, 'bool'] });
export const Broadcast = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], envelope: [3, Envelope] });
export const Empty = new Message({});
export const Refused = new Message({ code: [1, 'uint32'], text: [2, 'string'], retryAfter: [3, 'uint32'] });
export const Arrived = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], presence: [3, SignedPresence], before: [4, 'bool'], node: [5, 'bytes'] });
export const Departed = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], member: [3, 'bytes'], lost: [4, 'bool'] });
export const Delivered = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], from: [3, 'bytes'], envelope: [4, Envelope] });

export const ToNode = new Message({
  ref: [1, 'uint32'], login: [2, Login], join: [3, Join], part: [4, Part], send: [5, Send], beat: [6, Empty], broadcast: [7, Broadcast],
  askIce: [8, Empty],
});
export const ToPeer = new Message({
  ref: [1, 'uint32'], challenge: [2, Challenge], welcome: [3, Welcome], joined: [4, Joined], done: [5, Empty],
  refused: [6, Refused], arrived: [7, Arrived], departed: [8, Departed], delivered: [9, Delivered],
  broadcast: [10, Broadcast], iceServers: [11, IceServers],
});

// Between peers.

export const Start = new Message({ run: [1, 'uint64'] });
export const Piece = new Message({
  run: [1, 'uint64'], sequence: [2, 'uint64'], channel: [3, 'uint32'], more: [4, 'bool'], data: [5, 'bytes'], ackRun: [6, 'uint64'], ack: [7, 'uint64'],
});
export const Path = { direct: 1, turn: 2, nodes: 3 } as const;
export const Linked = new Message({ presence: [1, SignedPresence], path: [2, 'uint32'] });
export const Unlinked = new Message({ member: [1, 'bytes'] });
export const Forward = new Message({ ref: [1, 'uint32'], to: [2, 'bytes'], envelope: [3, Envelope] });
export const Forwarded = new Message({ ref: [1, 'uint32'], code: [2, 'uint32'] });
export const Spread = new Message({ envelope: [1, Envelope], pass: [2, 'bool'] });

/** One of them, or neither; as lists, since a field of no bytes is there too. */
export const Value = new Message({ json: [1, 'bytes', 'list'], bytes: [2, 'bytes', 'list'] });
export const Call = new Message({ id: [1, 'uint32'], path: [2, 'string'], args: [3, Value], more: [4, 'bool'], credit: [5, 'uint32'] });
export const CallValue = new Message({ id: [1, 'uint32'], value: [2, Value], more: [3, 'bool'], last: [4, 'bool'] });
export const CallProgress = new Message({ id: [1, 'uint32'], value: [2, Value] });
export const CallError = new Message({ id: [1, 'uint32'], code: [2, 'string'], text: [3, 'string'], data: [4, Value] });
export const CallCredit = new Message({ id: [1, 'uint32'], values: [2, 'uint32'] });
export const CallCancel = new Message({ id: [1, 'uint32'] });

export const Control = new Message({
  start: [1, Start], piece: [2, Piece], linked: [3, Linked], unlinked: [4, Unlinked], forward: [5, Forward], forwarded: [6, Forwarded],
  passed: [7, Envelope], spread: [8, Spread], call: [9, Call], callValue: [10, CallValue], callProgress: [11, CallProgress],
  callError: [12, CallError], callCredit: [13, CallCredit], callCancel: [14, CallCancel],
});

/** What a message of a kind is once it is decoded. */
export type Of<M> = M extends Message<infer F> ? Decoded<F> : never;
