// What a diagnosis finds on networks of every kind, and that it leaves nothing behind.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { diagnose, type Diagnosis, type Subject } from '../src/diagnose.ts';

type Answer = { candidates?: string[]; error?: number; never?: boolean };

const HOST = ['6f.local 5000 typ host network-id 1'];
const srflx = (port: number, network = 1) => `203.0.113.7 ${port} typ srflx raddr 0.0.0.0 rport 0 network-id ${network}`;
const relay = '198.51.100.1 50000 typ relay raddr 0.0.0.0 rport 0 network-id 1';

/** WebRTC on a network: what comes of each URL; connections are counted. */
function network(answers: { readonly [url: string]: Answer }, host: string[] = HOST): { rtc: typeof RTCPeerConnection; open: () => number; most: () => number } {
  let [open, most] = [0, 0];
  class Fake {
    onicecandidate: (event: object) => void = () => {};
    onicecandidateerror: (event: object) => void = () => {};
    readonly #configuration: RTCConfiguration;
    #closed = false;

    constructor(configuration: RTCConfiguration) {
      this.#configuration = configuration;
      most = Math.max(most, ++open);
    }

    createDataChannel(): void {}
    createOffer = async () => ({ type: 'offer', sdp: '' });
    async setLocalDescription(): Promise<void> {
      const { iceServers = [], iceTransportPolicy } = this.#configuration;
      const all = iceServers.map(({ urls }) => answers[String(urls)] ?? {});
      await immediate();
      const found = iceTransportPolicy === 'relay' ? all.flatMap(({ candidates = [] }) => candidates.filter((one) => one.includes('relay')))
        : [...host, ...new Set(all.flatMap(({ candidates = [] }) => candidates))];
      for (const one of found) this.#tell({ candidate: { candidate: `candidate:1 1 udp 1 ${one}` } });
      for (const { error } of all) if (error && !this.#closed) this.onicecandidateerror({ errorCode: error });
      if (!all.some(({ never }) => never)) this.#tell({ candidate: null });
    }

    #tell(event: object): void {
      if (!this.#closed) this.onicecandidate(event);
    }

    close(): void {
      assert.equal(this.#closed, false);
      this.#closed = true;
      open--;
    }
  }
  return { rtc: Fake as unknown as typeof RTCPeerConnection, open: () => open, most: () => most };
}

const TURN = ['turn:a?transport=udp', 'turn:a?transport=tcp', 'turns:a:443?transport=tcp'];

async function run(answers: { readonly [url: string]: Answer }, more: Partial<Subject> = {}, host = HOST, options = {}): Promise<Diagnosis> {
  const { rtc, open, most } = network(answers, host);
  const iceServers = Object.keys(answers).map((urls) => (urls.startsWith('stun') ? { urls } : { urls, username: 'u', credential: 'c' }));
  const diagnosis = await diagnose({ rtc, configuration: { iceServers }, node: 'ws://node', greet: async () => {}, peers: [], ...more }, options);
  assert.equal(open(), 0, 'all are closed');
  assert.ok(most() <= 13);
  assert.deepEqual(JSON.parse(JSON.stringify(diagnosis)), diagnosis);
  return diagnosis;
}

const codes = ({ troubles }: Diagnosis) => troubles.map(({ code }) => code);
const healthy = { 'stun:a': { candidates: [srflx(6000)] }, 'stun:b': { candidates: [srflx(6000)] }, ...Object.fromEntries(TURN.map((url) => [url, { candidates: [relay] }])) };

test('a good network: no trouble, and no address unless it is asked for', async () => {
  const found = await run(healthy);
  assert.deepEqual([found.ok, codes(found)], [true, []]);
  assert.deepEqual([found.nat, found.udp, found.ipv6, found.candidates], ['cone', 'open', 'unknown', { host: 0, mdns: 1, srflx: 1, relay: 3 }]);
  assert.deepEqual(found.turn.map(({ transport, ok }) => [transport, ok]), [['udp', true], ['tcp', true], ['tls', true]]);
  assert.doesNotMatch(JSON.stringify(found), /203\.0|198\.51|6f\.local/);
  const { addresses } = await run(healthy, {}, HOST, { addresses: true });
  assert.deepEqual(addresses, ['203.0.113.7', '198.51.100.1']);
});

test('a NAT that gives each destination another port', async () => {
  const answers = { 'stun:a': { candidates: [srflx(6000)] }, 'stun:b': { candidates: [srflx(6001)] } };
  const found = await run(answers);
  assert.deepEqual([found.nat, codes(found)], ['symmetric', ['nat_symmetric', 'no_turn']]);
  assert.deepEqual(codes(await run({ ...healthy, ...answers })), [], 'with TURN it is none');
  const two = await run({ 'stun:a': { candidates: [srflx(6000, 1)] }, 'stun:b': { candidates: [srflx(6001, 2)] } });
  assert.equal(two.nat, 'cone', 'two networks');
  assert.equal((await run({ 'stun:a': { candidates: [srflx(6000)] } })).nat, 'unknown', 'one server tells nothing');
});

test('no NAT: the addresses are seen as they are', async () => {
  const host = ['203.0.113.7 5000 typ host', '2001:db8::1 5000 typ host'];
  const found = await run({ 'stun:a': {}, 'stun:b': {} }, {}, host);
  assert.deepEqual([found.nat, found.udp, found.ipv6, codes(found)], ['none', 'open', 'yes', []]);
  assert.equal((await run({ 'stun:a': {} }, {}, host.slice(0, 1))).ipv6, 'no');
});

test('UDP does not pass', async () => {
  const blocked = { 'stun:a': { error: 701 }, 'turn:a?transport=udp': { error: 701 } };
  const found = await run({ ...blocked, 'turn:a?transport=tcp': { candidates: [relay] } });
  assert.deepEqual([found.udp, codes(found)], ['blocked', ['udp_blocked']]);
  assert.deepEqual(codes(await run({ 'stun:a': { error: 701 } })), ['udp_blocked', 'no_turn']);
  const offline = await run(blocked, { greet: async () => { throw new Error('offline'); } }, []);
  assert.deepEqual([offline.udp, codes(offline)], ['unknown', ['no_candidates', 'node_gone', 'stun_no_reply', 'turn_no_reply']]);
});

test('TURN servers that refuse, or are full; peers that are reached over nodes', async () => {
  const found = await run({ ...healthy, 'turn:a?transport=udp': { error: 401 }, 'turn:a?transport=tcp': { error: 486 } }, { peers: [{ id: 'a', session: 'b', path: 'nodes', noDirect: 'no_reply' }] });
  assert.deepEqual(found.turn.map(({ why }) => why), ['denied', 'full', undefined]);
  assert.deepEqual(codes(found), ['turn_denied', 'turn_full', 'peers_over_nodes']);
});

test('no servers, no WebRTC', async () => {
  assert.deepEqual(codes(await run({})), ['no_servers']);
  assert.deepEqual(codes(await run({}, { rtc: undefined })), ['no_webrtc', 'no_servers']);
  const throws = class { constructor() { throw new Error('by a policy'); } } as unknown as typeof RTCPeerConnection;
  assert.deepEqual(codes(await run({}, { rtc: throws })), ['no_webrtc', 'no_servers']);
});

test('what never ends is ended: by a signal, or after 6 s', async () => {
  const { rtc, open } = network({ 'stun:a': { never: true } });
  const subject = { rtc, configuration: { iceServers: [{ urls: 'stun:a' }] }, node: 'ws://node', greet: () => new Promise<void>(() => {}), peers: [] };
  const stop = new AbortController();
  const running = diagnose(subject, { signal: stop.signal });
  for (let i = 0; i < 5; i++) await immediate();
  assert.ok(open() > 0);
  stop.abort(new Error('enough'));
  await assert.rejects(running, /enough/);
  assert.equal(open(), 0);
  await assert.rejects(diagnose(subject, { signal: stop.signal }), /enough/);
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const slow = diagnose(subject, {});
    for (let i = 0; i < 5; i++) await immediate();
    mock.timers.tick(6000);
    assert.deepEqual(codes(await slow), ['node_gone', 'stun_no_reply']);
    assert.equal(open(), 0);
  } finally {
    mock.timers.reset();
  }
});
