// The torrent of content.mjs, made here by hand, so that a leecher can come before there is any seeder.

import { createHash } from 'node:crypto';
import { PIECE, content, nameOf } from './content.mjs';

/** What a test must know of a file before any client has seen it. */
export function describeTorrent(size, seed) {
  const bytes = content(size, seed);
  const name = nameOf(size, seed);
  const pieces = [];
  for (let at = 0; at < size; at += PIECE) {
    pieces.push(createHash('sha1').update(bytes.subarray(at, at + PIECE)).digest());
  }
  const hashes = Buffer.concat(pieces);
  const info = Buffer.concat([
    Buffer.from(`d6:lengthi${size}e4:name${Buffer.byteLength(name)}:${name}12:piece lengthi${PIECE}e6:pieces${hashes.length}:`),
    hashes,
    Buffer.from('e'),
  ]);
  return {
    size,
    seed,
    name,
    infoHash: createHash('sha1').update(info).digest('hex'),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}
