// Connections that do not come to be at first, or that are lost: with which servers they are tried again, and when.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { type Negotiating, Negotiation } from '../src/negotiation.ts';
import { Kind } from '../src/wire.ts';

const FEW: RTCConfiguration = { iceServers: [{ urls: 'stun:a' }] };
const ALL: RTCConfiguration = { iceServers: [{ urls: 'stun:a' }, { urls: 'turn:a?transport=tcp', username: 'u', credential: 'c' }] };

/** WebRTC without a network: as much of it as descriptions need. */
class Connection {
  static last: Connection;
  signalingState = 'stable';
  connectionState = 'new';
  iceConnectionState = 'new';
  localDescription: { type: string; sdp: string } | null = null;
  remoteDescription: { type: string; sdp: string } | null = null;
  configuration: RTCConfiguration;
  onconnectionstatechange = () => {};
  readonly channels: { readyState: string; bufferedAmount: number; onopen?: () => void; send: (data: Uint8Array) => void; onmessage?: (event: object) => void }[] = [];
  #fragment = 0;

  constructor(configuration: RTCConfiguration) {
    this.configuration = configuration;
    Connection.last = this;
  }

  createDataChannel(): object {
    const channel = {
      readyState: 'connecting', bufferedAmount: 0,
      send: (data: Uint8Array) => void (channel.bufferedAmount += data.length),
    };
    this.channels.push(channel);
    return channel;
  }

  async createOffer({ iceRestart = false } = {}): Promise<object> {
    if (iceRestart || this.#fragment === 0) this.#fragment++;
    return { type: 'offer', sdp: `o=- 1 2\r\na=ice-ufrag:${this.#fragment}\r\n` };
  }

  createAnswer = async () => ({ type: 'answer', sdp: 'o=- 1 2\r\na=ice-ufrag:answer\r\n' });

  async setLocalDescription(description: { type: string; sdp: string }): Promise<void> {
    this.localDescription = description;
    this.signalingState = description.type === 'offer' ? 'have-local-offer' : 'stable';
  }

  async setRemoteDescription(description: { type: string; sdp: string }): Promise<void> {
    this.remoteDescription = description;
    this.signalingState = description.type === 'offer' ? 'have-remote-offer' : 'stable';
  }

  setConfiguration(configuration: RTCConfiguration): void {
    this.configuration = configuration;
  }

  getStats = async () => new Map();
  addIceCandidate = async () => {};
  close = () => {};

  state(state: string): void {
    this.connectionState = this.iceConnectionState = state;
    this.onconnectionstatechange();
  }

  open(): void {
    this.state('connected');
    for (const channel of this.channels) {
      channel.readyState = 'open';
      channel.onopen?.();
    }
  }
}

interface Scene {
  readonly negotiation: Negotiation;
  readonly sent: { kind: number; sequence: bigint; ufrag: string | undefined }[];
  readonly told: string[];
  offers(): (string | undefined)[];
  /** The other side answers the newest offer. */
  answer(): Promise<void>;
  pass(ms: number): Promise<void>;
}

async function scene(play: (scene: Scene) => Promise<void>, { lower = true, all = ALL } = {}): Promise<void> {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const clock = mock.method(performance, 'now', () => Date.now() + 1e6);
  try {
    const sent: Scene['sent'] = [];
    const told: string[] = [];
    const peer: Negotiating = {
      lower, rtc: Connection as unknown as typeof RTCPeerConnection, configuration: (few) => (few ? FEW : all),
      wanted: () => true, relayed: () => false, affords: () => true,
      signal: (kind, plain) => {
        const { sdp = '' } = JSON.parse(new TextDecoder().decode(plain)) as { sdp?: string };
        sent.push({ kind, sequence: BigInt(sent.length + 1), ufrag: /ufrag:(\S+)/.exec(sdp)?.[1] });
        return BigInt(sent.length);
      },
      begun: () => {}, opened: () => told.push('opened'), ended: () => told.push('ended'), noWay: () => told.push('no way'), troubled: () => told.push('troubled'),
      idle: () => {}, incoming: () => {},
    };
    const negotiation = new Negotiation(peer);
    const pass = async (ms: number) => {
      for (let at = 0; at < ms; at += 100) {
        mock.timers.tick(100);
        for (let i = 0; i < 30; i++) await Promise.resolve();
      }
    };
    const offers = () => sent.filter(({ kind }) => kind === Kind.offer).map(({ ufrag }) => ufrag);
    let heard = 100n;
    const answer = async () => {
      const re = Number(sent.filter(({ kind }) => kind === Kind.offer).at(-1)?.sequence);
      negotiation.take(Kind.answer, heard++, new TextEncoder().encode(JSON.stringify({ type: 'answer', sdp: `o=- 9 9\r\na=ice-ufrag:${heard}\r\n`, re })));
      await pass(100);
    };
    negotiation.meet(true);
    await pass(100);
    await play({ negotiation, sent, told, offers, answer, pass });
    negotiation.stop();
  } finally {
    clock.mock.restore();
    mock.timers.reset();
  }
}

for (const lower of [true, false]) {
  test(`few servers do not connect: all are tried, by the side that has offered, the ${lower ? 'lower' : 'higher'} one`, () => scene(async ({ offers, answer, pass }) => {
    assert.equal(Connection.last.configuration, FEW);
    await answer();
    await pass(1300);
    assert.deepEqual(offers(), ['1']);
    await pass(400);
    assert.deepEqual(offers(), ['1', '2']);
    assert.equal(Connection.last.configuration, ALL);
    await answer();
    await pass(5000);
    assert.deepEqual(offers(), ['1', '2'], 'once');
  }, { lower }));
}

test('who has answered tries all later, for one that does not', () => scene(async ({ negotiation, offers, pass }) => {
  negotiation.take(Kind.offer, 50n, new TextEncoder().encode(JSON.stringify({ type: 'offer', sdp: 'o=- 9 9\r\na=ice-ufrag:x\r\n' })));
  await pass(2900);
  assert.equal(Connection.last.configuration, FEW);
  const before = offers().length;
  await pass(300);
  assert.deepEqual([offers().length - before, Connection.last.configuration], [1, ALL]);
}, { lower: false }));

test('they connect, or there are no others: nothing is tried again', async () => {
  await scene(async ({ offers, answer, pass }) => {
    await answer();
    Connection.last.open();
    await pass(5000);
    assert.deepEqual(offers(), ['1']);
    assert.equal(Connection.last.configuration, FEW);
  });
  await scene(async ({ offers, answer, pass, told }) => {
    await answer();
    await pass(5000);
    assert.deepEqual(offers(), ['1']);
    Connection.last.state('failed');
    assert.deepEqual(told, ['no way', 'ended']);
  }, { all: FEW });
});

test('few servers fail at once: all are tried before it is given up', () => scene(async ({ offers, answer, pass, told }) => {
  await answer();
  Connection.last.state('failed');
  await pass(100);
  assert.deepEqual([offers(), told], [['1', '2'], []]);
  await answer();
  Connection.last.state('failed');
  assert.deepEqual(told, ['no way', 'ended']);
  const before = Connection.last;
  await pass(6000);
  assert.notEqual(Connection.last, before);
  assert.equal(Connection.last.configuration, ALL, 'the next one does not begin with few');
}));

test('candidates that are found together go together, and at once in a page that is not seen', () => scene(async ({ negotiation, sent, pass }) => {
  const found = (n: number) => {
    const { attempt } = negotiation;
    for (let i = 0; i < n; i++) if (attempt) negotiation.candidate(attempt, { candidate: String(i) });
  };
  const signals = () => sent.filter(({ kind }) => kind === Kind.candidates).length;
  found(3);
  assert.equal(signals(), 0);
  await pass(100);
  assert.equal(signals(), 1);
  Object.assign(globalThis, { document: { hidden: true } });
  try {
    found(3);
    assert.equal(signals(), 4);
  } finally {
    Reflect.deleteProperty(globalThis, 'document');
  }
}));

test('the other side restarts: ours has all servers too', () => scene(async ({ negotiation, sent, answer, pass }) => {
  await answer();
  negotiation.take(Kind.offer, 200n, new TextEncoder().encode(JSON.stringify({ type: 'offer', sdp: 'o=- 9 9\r\na=ice-ufrag:other\r\n' })));
  await pass(100);
  assert.equal(sent.at(-1)?.kind, Kind.answer);
  assert.equal(Connection.last.configuration, ALL);
}, { lower: false }));

async function opened({ answer, pass }: Scene): Promise<void> {
  await answer();
  Connection.last.open();
  await pass(60_000);
}

test('an open connection does not answer: an ICE restart at once, and all servers when that did not do', () => scene(async (it) => {
  await opened(it);
  it.negotiation.mend();
  it.negotiation.mend(); // again, at once
  await it.pass(100);
  assert.deepEqual(it.offers(), ['1', '2']);
  assert.equal(Connection.last.configuration, FEW);
  await it.answer();
  Connection.last.state('disconnected');
  assert.deepEqual(it.told, ['opened', 'troubled']);
  await it.pass(6000);
  assert.deepEqual(it.offers(), ['1', '2', '3']);
  assert.equal(Connection.last.configuration, ALL);
  await it.answer();
  Connection.last.state('connected');
  await it.pass(60_000);
  assert.deepEqual(it.offers(), ['1', '2', '3']);
}));

for (const lower of [true, false]) {
  test(`a list of no candidates asks the lower member for an ICE restart, and this is the ${lower ? 'lower' : 'higher'} one`, () => scene(async (it) => {
    const ask = () => it.negotiation.take(Kind.candidates, 200n, new TextEncoder().encode('[]'));
    ask();
    await it.pass(100);
    assert.deepEqual(it.offers(), ['1'], 'it is not open yet');
    await opened(it);
    for (let i = 0; i < 10; i++) ask();
    await it.pass(1000);
    assert.deepEqual(it.offers(), lower ? ['1', '2'] : ['1']);
  }, { lower }));
}

test('an ICE restart while there was no node is repeated when there is one', () => scene(async (it) => {
  await opened(it);
  it.negotiation.repeat();
  await it.pass(100);
  assert.deepEqual(it.offers(), ['1'], 'nothing to repeat');
  Connection.last.state('disconnected');
  await it.pass(600);
  assert.deepEqual(it.offers(), ['1', '2']);
  it.negotiation.repeat();
  await it.pass(100);
  assert.deepEqual(it.offers(), ['1', '2', '2']);
  await it.answer();
  await it.pass(1000);
  it.negotiation.repeat(); // it was answered, and still there is no way
  await it.pass(100);
  assert.deepEqual(it.offers(), ['1', '2', '2', '3']);
}));

test('another network: all servers at once, and what the next node tells has its time to be answered', () => scene(async (it) => {
  await opened(it);
  it.negotiation.hurry();
  await it.pass(1800); // without a node
  assert.deepEqual(it.offers(), ['1', '2']);
  assert.equal(Connection.last.configuration, ALL);
  it.negotiation.repeat();
  Connection.last.state('disconnected');
  await it.pass(1000);
  assert.deepEqual(it.offers(), ['1', '2', '2']);
  await it.answer();
  Connection.last.state('connected');
  await it.pass(60_000);
  assert.deepEqual(it.offers(), ['1', '2', '2']);
}));

test('a connection whose credentials expire restarts, one that is younger does not', () => scene(async (it) => {
  await opened(it);
  it.negotiation.renewed(70_000);
  await it.pass(100);
  assert.deepEqual(it.offers(), ['1']);
  it.negotiation.renewed(50_000);
  await it.pass(100);
  assert.deepEqual(it.offers(), ['1', '2']);
}));

test('a connection that is lost for 20 s ends, and so does the next one', () => scene(async (it) => {
  for (let i = 0; i < 2; i++) {
    await opened(it);
    Connection.last.state('disconnected');
    await it.pass(21_000);
    assert.equal(it.told.filter((told) => told === 'ended').length, i + 1);
  }
}));

test('what waits to be sent does not go: an ICE restart before the browser sees that nothing passes', () => scene(async (it) => {
  await opened(it);
  const { channels } = Connection.last;
  const send = () => void it.negotiation.attempt?.send(0, new Uint8Array(1000));
  const go = (bytes: number) => { for (const channel of channels) channel.bufferedAmount = Math.max(0, channel.bufferedAmount - bytes); };
  send();
  go(1000);
  await it.pass(3000);
  for (let i = 0; i < 10; i++) { // more than goes
    send();
    send();
    go(1000);
    await it.pass(900);
  }
  for (let i = 0; i < 5; i++) { // acknowledged late, but something comes
    channels[0]?.onmessage?.({ data: new ArrayBuffer(1) });
    await it.pass(900);
  }
  assert.deepEqual([it.offers(), it.told], [['1'], ['opened']]);
  await it.pass(1500);
  assert.deepEqual([it.offers(), it.told], [['1', '2'], ['opened', 'troubled']]);
  assert.equal(Connection.last.configuration, FEW);
  await it.answer();
  await it.pass(2500);
  assert.deepEqual(it.offers(), ['1', '2', '3']);
  assert.equal(Connection.last.configuration, ALL);
  await it.answer();
  await it.pass(20_000); // the rest is for the browser to see
  assert.deepEqual(it.offers(), ['1', '2', '3']);
}));
