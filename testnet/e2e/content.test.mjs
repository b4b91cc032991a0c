// The file of the torrents is the same here and in the Go client (testnet/torrent/content_test.go has the same numbers).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeTorrent } from './torrent.mjs';

test('a size and a seed name the same file as in Go', () => {
  const file = describeTorrent(200_000, 7);
  assert.equal(file.sha256, '70283ba318ae38d45c76384468cc3d9b394acd7275992a588eb2df7dd8e82a48');
  assert.equal(file.infoHash, 'f8f9cfbdc46c4ed4d196df2d10add0b31a801311');
});
