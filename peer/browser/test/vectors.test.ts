// The same cases as in Go, from protocol/vectors: what one accepts the other accepts, and what one refuses the other refuses
// with the same code.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { concat, equal, printed } from '../src/bytes.ts';
import {
  appId, broadcastKey, newIdentity, openBroadcast, openEnvelope, sealBroadcast, sealEnvelope, sealKey, sealSecret, signLogin, signPresence, verifyLogin, verifyPresence, verifyWelcome, Window,
} from '../src/crypto.ts';
import { plain } from '../src/crypto-plain.ts';
import { web } from '../src/crypto-web.ts';
import { PeerserverError } from '../src/errors.ts';
import { usePrimitives } from '../src/primitives.ts';
import { EnvelopeBody, Kind, ToNode, ToPeer } from '../src/wire.ts';

declare const VECTORS: string;

type Case = Readonly<Record<string, string>>;

function cases<T = Case>(name: string): T[] {
  const list = JSON.parse(readFileSync(join(VECTORS, `${name}.json`), 'utf8')) as T[];
  assert.ok(list.length > 2);
  return list;
}

const hex = (text: string | undefined) => Uint8Array.from(Buffer.from(text ?? '', 'hex'));

async function code(run: () => Promise<unknown> | unknown): Promise<string> {
  try {
    await run();
    return 'ok';
  } catch (err) {
    if (err instanceof PeerserverError) return err.code;
    throw err;
  }
}

for (const [name, these] of [['WebCrypto', web], ['without it', plain]] as const) {
  test(`${name}: app ids`, async () => {
    usePrimitives(these);
    for (const v of cases('apps')) {
      const app = Buffer.from(v['name'] ?? '', 'hex').toString('utf8');
      if (!equal(hex(v['name']), new TextEncoder().encode(app))) continue; // names of other doors that are no text
      assert.equal(Buffer.from(await appId(app, hex(v['secret']), v['door'])).toString('hex'), v['app']);
    }
  });

  test(`${name}: logins`, async () => {
    usePrimitives(these);
    for (const v of cases('logins')) {
      const challenge = { version: 1, node: hex(v['node']), nonce: hex(v['challenge']) };
      const login = { key: hex(v['key']), url: v['url'] ?? '', nonce: hex(v['nonce']), signature: hex(v['signature']) };
      assert.equal(await code(() => verifyLogin(login, challenge)), v['code'], v['name']);
    }
  });

  test(`${name}: welcomes`, async () => {
    usePrimitives(these);
    for (const v of cases('welcomes')) {
      const challenge = { version: 1, node: hex(v['node']), nonce: hex(v['challenge']) };
      const login = { key: hex(v['key']), url: '', nonce: hex(v['nonce']), signature: new Uint8Array(0) };
      assert.equal(await code(() => verifyWelcome({ nodes: [], signature: hex(v['signature']) }, challenge, login)), v['code'], v['name']);
    }
  });

  test(`${name}: presences`, async () => {
    usePrimitives(these);
    for (const v of cases('presences')) {
      const signed = { key: hex(v['key']), body: hex(v['body']), signature: hex(v['signature']) };
      assert.equal(await code(async () => {
        const p = await verifyPresence(signed, hex(v['app']));
        assert.deepEqual(p.member, concat(signed.key, hex(v['session'])));
        assert.deepEqual(Uint8Array.from(p.seal), hex(v['seal']));
        assert.equal(p.name, v['title']);
      }), v['code'], v['name']);
    }
  });

  test(`${name}: envelopes`, async () => {
    usePrimitives(these);
    const tally = new Map<string, number>();
    for (const v of cases<Case & { sequence: number; kind: number }>('envelopes')) {
      const envelope = { body: hex(v['body']), signature: hex(v['signature']) };
      const app = hex(v['app']);
      const secret = await sealSecret(app, new TextEncoder().encode(v['secret']));
      const got = await code(async () => {
        const { header, plain } = await openEnvelope(envelope, app, hex(v['to']), await sealKey(hex(v['sealKey'])), secret);
        assert.equal(Buffer.from(plain).toString('utf8'), v['plain']);
        assert.equal(Buffer.from(header.from).toString('hex'), v['from']);
        assert.deepEqual([header.sequence, header.kind], [BigInt(v.sequence), v.kind]);
      });
      assert.equal(got, v['code'], v['name']);
      tally.set(got, (tally.get(got) ?? 0) + 1);
    }
    assert.ok((tally.get('ok') ?? 0) >= 2 && (tally.get('signature') ?? 0) >= 5);
  });

  test(`${name}: broadcasts`, async () => {
    usePrimitives(these);
    const tally = new Map<string, number>();
    for (const v of cases('broadcasts')) {
      const envelope = { body: hex(v['body']), signature: hex(v['signature']) };
      const app = hex(v['app']);
      const key = await broadcastKey(app, v['appName'] ?? '', new TextEncoder().encode(v['secret']));
      assert.deepEqual(key, hex(v['key']));
      const got = await code(async () => {
        const { header, plain } = await openBroadcast(envelope, app, key);
        assert.equal(Buffer.from(plain).toString('utf8'), v['plain']);
        assert.equal(Buffer.from(header.from).toString('hex'), v['from']);
        assert.equal(header.sequence, BigInt(v['sequence'] ?? 0));
      });
      assert.equal(got, v['code'], v['name']);
      tally.set(got, (tally.get(got) ?? 0) + 1);
    }
    assert.ok((tally.get('ok') ?? 0) >= 3 && (tally.get('signature') ?? 0) >= 5);
  });

  test(`${name}: what is made here is taken here`, async () => {
    usePrimitives(these);
    const app = await appId('chess');
    const [ada, bob] = [await newIdentity(), await newIdentity()];
    const challenge = { version: 1, node: bob.id, nonce: new Uint8Array(32) };
    await verifyLogin(await signLogin(ada, challenge, 'wss://node.example.org'), challenge);
    const key = await sealKey();
    const session = new Uint8Array(8).fill(7);
    const presence = await signPresence(bob, app, { session, seal: key.seal, name: 'Bob', services: ['file'] });
    const secret = await sealSecret(app, new TextEncoder().encode('hunter2'));
    const header = { app, from: concat(ada.id, session), to: presence.member, sequence: 1n, kind: Kind.offer };
    const envelope = await sealEnvelope(ada, header, presence.seal, secret, new TextEncoder().encode('v=0'));
    const { plain } = await openEnvelope(envelope, app, presence.member, key, secret);
    assert.equal(new TextDecoder().decode(plain), 'v=0');
    assert.equal(await code(() => openEnvelope(envelope, app, presence.member, key, new Uint8Array(32))), 'signature');
  });

  test(`${name}: a broadcast that is made here is taken here`, async () => {
    usePrimitives(these);
    const app = await appId('chess');
    const ada = await newIdentity();
    const key = await broadcastKey(app, 'chess', new Uint8Array(0));
    const envelope = await sealBroadcast(ada, app, concat(ada.id, new Uint8Array(8)), 3n, key, new TextEncoder().encode('all'));
    const { header, plain } = await openBroadcast(envelope, app, key);
    assert.deepEqual([header.sequence, new TextDecoder().decode(plain)], [3n, 'all']);
    assert.equal(await code(async () => openBroadcast(envelope, app, await broadcastKey(app, 'go', new Uint8Array(0)))), 'signature');
  });
}

test('ids are printed alike', () => {
  for (const v of cases('nodes')) {
    const key = hex(v['key'] ?? v['hex'] ?? v['id']);
    if (key.length === 32) assert.ok(Object.values(v).includes(printed(key)), JSON.stringify(v));
  }
});

test('windows', async () => {
  for (const v of cases<{ sequences: string[]; codes: string[] }>('windows')) {
    const window = new Window();
    for (const [i, sequence] of v.sequences.entries()) {
      assert.equal(await code(() => window.take(BigInt(sequence))), v.codes[i], `${sequence} of ${v.sequences.join(' ')}`);
    }
  }
});

test('messages survive', () => {
  const envelope = { body: new Uint8Array([1, 2]), signature: new Uint8Array([3]) };
  const sent = ToNode.decode(ToNode.encode({ ref: 300, send: { app: new Uint8Array(20), to: new Uint8Array(40), envelope, data: true } }));
  assert.equal(sent.ref, 300);
  assert.deepEqual(sent.send?.envelope, envelope);
  assert.equal(sent.send?.data, true);
  assert.equal(sent.join, undefined);
  assert.ok(ToNode.decode(ToNode.encode({ beat: {} })).beat);
  const big = EnvelopeBody.decode(EnvelopeBody.encode({ sequence: 2n ** 64n - 1n }));
  assert.equal(big.sequence, 2n ** 64n - 1n);
  for (let cut = 1; cut < 20; cut++) {
    const bytes = ToPeer.encode({ ref: 1, refused: { code: 4, text: 'too many', retryAfter: 1000 } });
    try {
      ToPeer.decode(bytes.subarray(0, cut));
    } catch (err) {
      assert.equal((err as Error).name, 'MalformedError');
    }
  }
  // Fields of a later version are passed over.
  assert.equal(ToPeer.decode(concat(new Uint8Array([0xfa, 0x7f, 2, 1, 1]), ToPeer.encode({ ref: 9 }))).ref, 9);
});
