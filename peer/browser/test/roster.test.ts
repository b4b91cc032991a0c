// Who is there, as nodes and peers say, and with whom a connection is tried; and what peers ask of each other's links.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { keyOf } from '../src/bytes.ts';
import { Commands } from '../src/commands.ts';
import { appId, newIdentity, type Presence, signPresence } from '../src/crypto.ts';
import { Links } from '../src/links.ts';
import type { Member, MemberRoom } from '../src/member.ts';
import type { Room } from '../src/room.ts';
import { Roster } from '../src/roster.ts';
import { Control, type Of, Piece } from '../src/wire.ts';

const app = await appId('roster');
const NODE = new Uint8Array(32).fill(1);

async function someone(name = ''): Promise<Presence> {
  return signPresence(await newIdentity(), app, { session: crypto.getRandomValues(new Uint8Array(8)), seal: new Uint8Array(32), name });
}

/** A connection that never comes to be. */
class NoConnection {
  signalingState = 'stable';
  connectionState = 'new';
  createDataChannel = () => ({ readyState: 'connecting' });
  createOffer = async () => ({ type: 'offer', sdp: 'v=0' });
  setLocalDescription = async () => {};
  close = () => {};
}

function rosterOf(most: number, linked: (member: Member) => boolean = () => false, more: Partial<MemberRoom> = {}): { roster: Roster; sent: { to: Member; kind: number }[] } {
  const sent: { to: Member; kind: number }[] = [];
  const room: MemberRoom = {
    member: new Uint8Array(40), rtc: NoConnection as unknown as typeof RTCPeerConnection, configuration: () => ({}), commands: new Commands(() => []), relays: false,
    room: undefined as unknown as Room, wants: () => true,
    send: async (to, kind) => void sent.push({ to, kind }),
    opened: () => {}, path: () => {}, message: () => {}, control: () => {}, ended: () => {}, linked, idle: () => {}, noServers: false, answers: async () => true, troubled: () => {}, ...more,
  };
  return { roster: new Roster(room, most), sent };
}

test('members are counted, also those that are not shown, and those whom nodes find later', async () => {
  const { roster } = rosterOf(50);
  roster.joined(2, false);
  const all = await Promise.all([1, 2, 3, 4].map(() => someone()));
  const [one, two, three, four] = all as [Presence, Presence, Presence, Presence];
  roster.arrived(one, true, NODE);
  assert.equal(roster.members, 2);
  roster.arrived(two, true, NODE);
  roster.arrived(three, true, NODE); // of another node, which this one did not know
  assert.equal(roster.members, 3);
  roster.arrived(four, false, NODE);
  roster.arrived(four, false, NODE);
  assert.equal(roster.members, 4);
  roster.departed(one.member, false);
  roster.departed(one.member, false);
  assert.equal(roster.members, 3);
  roster.departed((await someone()).member, false); // one that was not shown
  assert.equal(roster.members, 3, 'three are shown');
  roster.close();
});

test('one whose node is not reached is lost, until it is shown again', async () => {
  const { roster } = rosterOf(50);
  roster.joined(1, false);
  const presence = await someone('Ada');
  roster.arrived(presence, true, NODE);
  const { peer } = roster.find(presence.member) as Member;
  assert.deepEqual([peer.name, peer.lost, peer.path, peer.open], ['Ada', false, undefined, false]);
  assert.equal(peer.node, 'yryonyebyryonyebyryonyebyryonyebyryonyebyryonyebyryo');
  roster.departed(presence.member, true);
  assert.equal(peer.lost, true);
  roster.arrived(presence, false, NODE);
  assert.equal(peer.lost, false);
  roster.close();
});

test('connections are tried with maxPeers, and others have a turn when one has left', async () => {
  const { roster, sent } = rosterOf(2);
  roster.joined(0, false);
  const all = await Promise.all([1, 2, 3, 4].map(() => someone()));
  for (const presence of all) roster.arrived(presence, false, NODE);
  await sleep(20);
  const offered = () => new Set(sent.filter(({ kind }) => kind === 1).map(({ to }) => keyOf(to.presence.member)));
  assert.equal(offered().size, 2);
  assert.equal(roster.others, true);
  roster.departed((all[0] as Presence).member, false);
  roster.fill();
  await sleep(20);
  assert.equal(offered().size, 3);
  roster.close();
});

test('a resumed membership forgets nobody', async () => {
  const { roster } = rosterOf(50);
  roster.joined(1, false);
  const presence = await someone();
  roster.arrived(presence, true, NODE);
  roster.joined(0, true);
  assert.equal(roster.members, 1);
  assert.equal(roster.find(presence.member)?.shown, true);
  roster.close();
});

test('a peer that says it is connected to anybody has few of them tried', async () => {
  const { roster } = rosterOf(50, () => true);
  roster.joined(0, false);
  const all = await Promise.all(Array.from({ length: 40 }, () => someone()));
  for (const presence of all) roster.linked(presence);
  const tried = [...roster.all].filter((member) => member.busy).length;
  assert.ok(tried >= 1 && tried <= 8, `${tried} are tried`);
  roster.close();
});

test('one that begins anew again and again is not followed for ever', async () => {
  let [opened, ended] = [0, 0];
  const { roster } = rosterOf(50, () => false, { relays: true, opened: () => opened++, ended: () => ended++ });
  roster.joined(0, false);
  const presence = await someone();
  roster.arrived(presence, false, NODE);
  const member = roster.find(presence.member) as Member;
  const header = { app, from: presence.member, to: new Uint8Array(40), sequence: 1n, kind: 5 };
  for (let run = 1n; run <= 100n; run++) member.take(header, Piece.encode({ run, sequence: 1n, channel: 1, data: Control.encode({ start: {} }) }));
  assert.ok(opened >= 5 && opened <= 12, `${opened} connections`);
  assert.equal(ended, opened - 1);
  assert.equal(member.path, 'nodes');
  assert.throws(() => member.take(header, new Uint8Array([0xff])), { name: 'MalformedError' }); // which the room passes over
  roster.close();
  assert.equal(ended, opened);
});

/** Somebody who is connected, as far as Links can see. */
function connected(presence: Presence): Member & { said: Of<typeof Control>[] } {
  const said: Of<typeof Control>[] = [];
  return {
    presence, said, open: true, passes: true, path: 'direct', linked: new Map(),
    sendControl: async (one: Parameters<typeof Control.encode>[0]) => void said.push(Control.decode(Control.encode(one))),
  } as unknown as Member & { said: Of<typeof Control>[] };
}

const control = (said: Parameters<typeof Control.encode>[0]) => Control.decode(Control.encode(said));

test('links: each is told of the others; signals go through a common peer, and only to whom it is connected', async () => {
  const [ada, bob, eve, far] = await Promise.all(['Ada', 'Bob', 'Eve', 'Far'].map(someone)) as [Presence, Presence, Presence, Presence];
  const members = [ada, bob].map(connected);
  const [a, b] = members as [ReturnType<typeof connected>, ReturnType<typeof connected>];
  const shown: Presence[] = [];
  const find = (id: Uint8Array) => members.find((member) => keyOf(member.presence.member) === keyOf(id));
  const links = new Links({ app, member: eve.member, connected: members, find, linked: (presence) => shown.push(presence), passed: async () => {} });
  links.opened(b);
  assert.deepEqual([a, b].map(({ said }) => said.map((one) => one.linked?.presence?.key)), [[b.presence.signed.key], [a.presence.signed.key]]);

  // From one to the other, not to others, and not without end.
  const envelope = { body: new Uint8Array(1000), signature: new Uint8Array(64) };
  const codes = (to: Uint8Array, size = 1000) => {
    links.control(a, control({ forward: { ref: 5, to, envelope: { ...envelope, body: new Uint8Array(size) } } }));
    return a.said.at(-1)?.forwarded?.code;
  };
  assert.equal(codes(bob.member), 0);
  assert.equal(b.said.at(-1)?.passed?.body.length, 1000);
  assert.equal(codes(far.member), 5);
  assert.equal(codes(bob.member, 33 << 10), 3);
  Object.assign(b, { passes: false }); // it is reached over nodes
  assert.equal(codes(bob.member), 5);
  Object.assign(b, { passes: true });
  let rate: number | undefined = 0;
  for (let i = 0; i < 30 && rate === 0; i++) rate = codes(bob.member, 32_000);
  assert.equal(rate, 4);

  // Through one that says so.
  assert.equal(await links.forward(far.member, envelope, false), false);
  links.control(a, control({ linked: { presence: far.signed, path: 1 } }));
  links.control(a, control({ linked: { presence: { ...eve.signed, body: far.signed.body }, path: 1 } })); // a forged one
  await sleep(50);
  assert.deepEqual(shown.map(({ name }) => name), ['Far']);
  assert.equal(links.has(far.member), true);
  const forwarded = links.forward(far.member, envelope, false);
  const ref = a.said.at(-1)?.forward?.ref ?? 0;
  links.control(b, control({ forwarded: { ref, code: 5 } })); // who was not asked does not answer
  links.control(a, control({ forwarded: { ref } }));
  assert.equal(await forwarded, true);
  assert.equal(await links.forward(far.member, envelope, false), false, 'nobody answers');
  links.control(a, control({ unlinked: { member: far.member } }));
  await sleep(10);
  assert.equal(links.has(far.member), false);
});

test('a peer that answers is there, whatever it answers; one that is silent for a second is not', async () => {
  const [ada, bob, eve] = await Promise.all(['Ada', 'Bob', 'Eve'].map(someone)) as [Presence, Presence, Presence];
  const [a, b] = [connected(ada), connected(bob)];
  const links = new Links({ app, member: eve.member, connected: [a, b], find: () => undefined, linked: () => {}, passed: async () => {} });
  const answers = links.answers(a);
  const asked = a.said.at(-1)?.forward;
  assert.deepEqual([asked?.to, asked?.envelope], [eve.member, undefined], 'nothing that it would do');
  links.control(b, control({ forwarded: { ref: asked?.ref ?? 0, code: 8 } })); // another one answers
  links.control(a, control({ forwarded: { ref: asked?.ref ?? 0, code: 8 } }));
  assert.equal(await answers, true);
  const began = performance.now();
  assert.equal(await links.answers(b), false);
  assert.ok(performance.now() - began > 900);
  Object.assign(b, { sendControl: () => Promise.reject(new Error('closed')) });
  assert.equal(await links.answers(b), false);
  // Ours answers the same question.
  links.control(a, control({ forward: { ref: 7, to: ada.member } }));
  assert.deepEqual([a.said.at(-1)?.forwarded?.ref, a.said.at(-1)?.forwarded?.code], [7, 3]);
});
