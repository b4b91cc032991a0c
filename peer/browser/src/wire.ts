// The messages of the native door, as in protocol/peerserver.proto: there is what they mean.

import { Message, type Value } from './codec.ts';

export const SignedRecord = new Message({ key: [1, 'bytes'], seq: [2, 'int64'], value: [3, 'bytes'], signature: [4, 'bytes'] });
export const RecordBody = new Message({
  version: [1, 'uint32'], ttl: [2, 'uint32'], urls: [3, 'string', 'list'], stunPort: [4, 'uint32'], turnPort: [5, 'uint32'], load: [6, 'uint32'],
});

export const Challenge = new Message({ version: [1, 'uint32'], node: [2, 'bytes'], nonce: [3, 'bytes'] });
export const Login = new Message({ key: [1, 'bytes'], url: [2, 'string'], nonce: [3, 'bytes'], signature: [4, 'bytes'] });
export const Welcome = new Message({ nodes: [1, SignedRecord, 'list'] });

export const SignedPresence = new Message({ key: [1, 'bytes'], body: [2, 'bytes'], signature: [3, 'bytes'] });
export const PresenceBody = new Message({
  app: [1, 'bytes'], session: [2, 'bytes'], seal: [3, 'bytes'], issued: [4, 'int64'], ttl: [5, 'uint32'],
  name: [6, 'string'], services: [7, 'string', 'list'], metadata: [8, 'bytes'],
});

export const Envelope = new Message({ body: [1, 'bytes'], signature: [2, 'bytes'] });
export const EnvelopeBody = new Message({
  app: [1, 'bytes'], from: [2, 'bytes'], to: [3, 'bytes'], sequence: [4, 'uint64'], kind: [5, 'uint32'], enc: [6, 'bytes'], sealed: [7, 'bytes'],
});

export const Kind = { offer: 1, answer: 2, candidates: 3, message: 4, data: 5, bye: 6 } as const;

export const Join = new Message({ app: [1, 'bytes'], presence: [2, SignedPresence] });
export const Joined = new Message({ members: [1, 'uint32'] });
export const Part = new Message({ app: [1, 'bytes'], session: [2, 'bytes'] });
export const Send = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], to: [3, 'bytes'], envelope: [4, Envelope], data: [5, 'bool'] });
export const Empty = new Message({});
export const Refused = new Message({ code: [1, 'uint32'], text: [2, 'string'], retryAfter: [3, 'uint32'] });
export const Arrived = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], presence: [3, SignedPresence], before: [4, 'bool'] });
export const Departed = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], member: [3, 'bytes'], lost: [4, 'bool'] });
export const Delivered = new Message({ app: [1, 'bytes'], session: [2, 'bytes'], from: [3, 'bytes'], envelope: [4, Envelope] });

export const ToNode = new Message({
  ref: [1, 'uint32'], login: [2, Login], join: [3, Join], part: [4, Part], send: [5, Send], beat: [6, Empty],
});
export const ToPeer = new Message({
  ref: [1, 'uint32'], challenge: [2, Challenge], welcome: [3, Welcome], joined: [4, Joined], done: [5, Empty],
  refused: [6, Refused], arrived: [7, Arrived], departed: [8, Departed], delivered: [9, Delivered],
});

/** What a message of a kind is once it is decoded. */
export type Of<M> = M extends Message<infer F> ? Value<F> : never;
