// The same cases as in Go, from protocol/vectors/addresses.json.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { addressOf, addressURL, parseAddress, printAddress } from '../src/address.ts';
import { printed } from '../src/bytes.ts';
import { PeerserverError } from '../src/errors.ts';

declare const VECTORS: string;

interface Case {
  readonly address: string;
  readonly same?: string;
  readonly url?: string;
  readonly node?: string;
  readonly peer?: string;
  readonly code: string;
}

const id = (hex: string | undefined) => printed(Buffer.from(hex ?? '', 'hex'));

function code(run: () => unknown): string {
  try {
    run();
    return 'ok';
  } catch (err) {
    if (err instanceof PeerserverError) return err.code;
    throw err;
  }
}

test('addresses', () => {
  const cases = JSON.parse(readFileSync(join(VECTORS, 'addresses.json'), 'utf8')) as Case[];
  assert.ok(cases.length > 50);
  for (const v of cases) {
    assert.equal(code(() => {
      const a = parseAddress(v.address);
      assert.equal(printAddress(a), v.same);
      assert.equal(addressURL(a), v.url);
      assert.deepEqual([a.node, a.peer], [id(v.node), id(v.peer)]);
      assert.deepEqual(addressOf(v.url ?? '', a.node, a.peer), a);
    }), v.code, v.address);
  }
});

test('a URL with more than a host is no place of a peer', () => {
  const some = printed(new Uint8Array(32));
  for (const url of ['', 'a.example', 'http://a.example', 'wss://', 'wss://a.example/', 'wss://u@a.example', 'wss://a.example:0', 'ws://[::1', 'ws://a.1']) {
    assert.equal(code(() => addressOf(url, some, some)), 'malformed', url);
  }
});
