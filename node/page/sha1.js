// SHA-1 of bytes. Browsers offer it on https:// and on loopback only; a node on a LAN is often reached by plain http.

/** The 20 bytes of the digest. */
export async function sha1(bytes) {
  if (globalThis.crypto?.subtle) return new Uint8Array(await crypto.subtle.digest('SHA-1', bytes));
  return sha1Plain(bytes);
}

/** The same without help from the browser (FIPS 180-4, section 6.1). */
export function sha1Plain(bytes) {
  const padded = pad(bytes);
  const view = new DataView(padded.buffer);
  const h = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  const w = new Uint32Array(80);
  for (let at = 0; at < padded.length; at += 64) {
    for (let t = 0; t < 16; t += 1) w[t] = view.getUint32(at + 4 * t);
    for (let t = 16; t < 80; t += 1) w[t] = left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    let [a, b, c, d, e] = h;
    for (let t = 0; t < 80; t += 1) {
      const [f, k] = mix(t, b, c, d);
      [e, d, c, b, a] = [d, c, left(b, 30), a, (left(a, 5) + f + e + k + w[t]) >>> 0];
    }
    [a, b, c, d, e].forEach((v, i) => {
      h[i] = (h[i] + v) >>> 0;
    });
  }
  const digest = new DataView(new ArrayBuffer(20));
  h.forEach((v, i) => digest.setUint32(4 * i, v));
  return new Uint8Array(digest.buffer);
}

// One bit, zeros up to a whole block, and the length in bits.
function pad(bytes) {
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  new DataView(padded.buffer).setUint32(padded.length - 4, bytes.length * 8);
  return padded;
}

function left(x, n) {
  return ((x << n) | (x >>> (32 - n))) >>> 0;
}

function mix(t, b, c, d) {
  if (t < 20) return [(b & c) | (~b & d), 0x5a827999];
  if (t < 40) return [b ^ c ^ d, 0x6ed9eba1];
  if (t < 60) return [(b & c) | (b & d) | (c & d), 0x8f1bbcdc];
  return [b ^ c ^ d, 0xca62c1d6];
}
