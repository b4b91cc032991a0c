// The file that the torrents carry, the same in Node, in the page and in the Go client: a name for its size and seed,
// bytes of a small generator, the torrent's info hash.

export const PIECE = 65_536;

/** `size` bytes that depend on `seed` alone (xorshift32). */
export function content(size, seed) {
  const bytes = new Uint8Array(size);
  let x = seed >>> 0 || 1;
  for (let i = 0; i < size; i += 1) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes[i] = x & 0xff;
  }
  return bytes;
}

export function nameOf(size, seed) {
  return `content-${size}-${seed}.bin`;
}
