// The servers that a node gives, which may be any node's: what of them is used, for how long, and what the app's own do.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { checked, Servers } from '../src/ice.ts';
import { IceServers, type Of } from '../src/wire.ts';

type Given = Of<typeof IceServers>;

const server = (...urls: string[]) => ({ urls, username: 'user', credential: 'password' });
const given = (ttl: number, ...servers: Given['servers']): Given => IceServers.decode(IceServers.encode({ servers, ttl }));
const urls = ({ iceServers = [] }: RTCConfiguration) => iceServers.map((one) => one.urls);

test('of what a node gives, only what is a STUN or TURN server', () => {
  const good = [
    'stun:node.example.org', 'stun:192.0.2.1:3478', 'stun:[2001:db8::1]:3478', 'turn:node.example.org:3478', 'TURN:node.example.org?transport=udp',
    'turn:node.example.org:80?transport=tcp', 'turns:node.example.org:443?transport=tcp', 'turns:node.example.org',
  ];
  assert.deepEqual(checked([server(...good)]).map((one) => one.urls), good);
  assert.deepEqual(checked([server(good[0] ?? '', good[3] ?? '')]), [{ urls: good[0] }, { urls: good[3], username: 'user', credential: 'password' }]);
  for (const bad of [
    '', 'stun:', 'http://node.example.org', 'stuns:node.example.org', 'stun:node.example.org?transport=tcp', 'turn:node.example.org?transport=sctp',
    'turns:node.example.org?transport=udp', 'turn:node.example.org:22', 'turn:node.example.org:0', 'turn:node.example.org:65536', 'turn://node.example.org',
    'turn:user@node.example.org', 'turn:node.example.org/path', 'turn:node.example.org?transport=udp&x=y', `turn:${'a'.repeat(300)}`, 'turn:node.example.org\n',
  ]) assert.deepEqual(checked([server(bad)]), [], bad);
  assert.deepEqual(checked([{ urls: ['turn:node.example.org'], username: '', credential: '' }]), [], 'a browser throws at a TURN server without credentials');
  assert.deepEqual(checked([{ urls: ['turn:node.example.org'], username: 'u'.repeat(513), credential: 'p' }]), []);
});

test('however many a node gives, a bounded number is used', () => {
  const many = Array.from({ length: 1000 }, (_, i) => server(...Array.from({ length: 100 }, (_, k) => `turn:host-${i}-${k}.example.org`)));
  assert.equal(checked(many).length, 16);
  assert.equal(checked(many.map((one) => ({ ...one, urls: one.urls.map(() => 'ftp:x') }))).length, 0);
});

test('a connection begins with few servers: each TURN URL costs an allocation', () => {
  const servers = new Servers({}, { ask: async () => undefined, renewed: () => {} });
  assert.deepEqual(urls(servers.configuration(true)), []);
  servers.take(given(3600,
    server('stun:a'), server('turns:a:443?transport=tcp', 'turn:a?transport=tcp', 'turn:a?transport=udp'), server('stun:b'), server('turn:b?transport=udp'), server('stun:c'),
  ));
  assert.deepEqual(urls(servers.configuration(true)), ['stun:a', 'stun:b', 'turn:a?transport=udp']);
  assert.equal(urls(servers.configuration(false)).length, 7);
  assert.equal(servers.configuration(true), servers.configuration(true), 'the same while they are the same');
  servers.take(undefined); // another node, which has none
  assert.equal(urls(servers.configuration(false)).length, 7);
  servers.take(given(3600, server('turn:c?transport=tcp')));
  assert.deepEqual(urls(servers.configuration(true)), ['turn:c?transport=tcp']);
  assert.equal(servers.configuration(true), servers.configuration(false), 'there are no others to try later');
  servers.close();
});

test('servers that the app names replace them, and so do none', () => {
  for (const iceServers of [[], [{ urls: 'stun:own.example.org' }, { urls: 'turn:own.example.org', username: 'u', credential: 'c' }]]) {
    const servers = new Servers({ iceServers, iceTransportPolicy: 'relay' }, { ask: async () => undefined, renewed: () => assert.fail() });
    servers.take(given(3600, server('stun:a')));
    for (const few of [true, false]) assert.deepEqual(servers.configuration(few), { iceServers, iceTransportPolicy: 'relay' });
    servers.close();
  }
});

test('they are asked for again before they expire, and not more often than that', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    let asked = 0;
    const ages: number[] = [];
    let answer: () => Promise<Given | undefined> = async () => given(3600, server(`stun:${asked}`));
    const servers = new Servers({}, { ask: () => (asked++, answer()), renewed: (age) => ages.push(age) });
    const pass = async (s: number) => {
      for (let i = 0; i < s; i++) {
        mock.timers.tick(1000);
        await Promise.resolve();
        await Promise.resolve();
      }
    };
    servers.take(given(3600, server('stun:0')));
    await pass(2159);
    assert.equal(asked, 0);
    await pass(2701 - 2159);
    assert.equal(asked, 1);
    assert.deepEqual(urls(servers.configuration(true)), ['stun:1']);
    assert.ok(ages.every((age) => age < (1 - 0.75) * 3_600_000), 'who is not that old is renewed in time by the next');
    answer = async () => given(1, server('stun:9')); // a node that would have us ask all the time
    for (let s = 0; asked < 2; s++) {
      assert.ok(s < 2701);
      await pass(1);
    }
    await pass(360);
    assert.ok(asked >= 15 && asked <= 22, `${asked} times`);
    answer = async () => { throw new Error('no node'); };
    const before = asked;
    await pass(23 + 300);
    assert.ok(asked - before >= 5 && asked - before <= 7, `${asked - before} times`);
    answer = async () => given(0xffffffff, server('stun:9')); // longer than a timer can wait
    await pass(60);
    const then = asked;
    await pass(50_000);
    assert.equal(asked, then);
    servers.close();
    await pass(100_000);
    assert.equal(asked, then);
  } finally {
    mock.timers.reset();
  }
});
