// What a hostile node may do with what it should give to its clients; see openTap. A signal is a frame that has a kind.

import { crypto, wire } from './tap.mjs';

const SPOTS = 12;
const NO_OFFER = JSON.stringify({ type: 'offer', sdp: 'v=0' });

/** None. */
export function honest({ bytes }, pass) {
  pass(bytes);
}

/** Signals come only with a bit flipped. */
export function spoils(frame, pass) {
  for (const bytes of frame.kind ? forgeries(frame.bytes, frame.envelope) : [frame.bytes]) pass(bytes);
}

/** Signals and arrivals come with a bit flipped too, many times, before and after the truth. */
export function forges(frame, pass) {
  const part = frame.envelope ?? frame.said.arrived?.presence;
  const forged = part ? forgeries(frame.bytes, part) : [];
  for (const bytes of [...forged, frame.bytes, ...forged]) pass(bytes);
}

/** All signals and arrivals come twice, and with `again()` once more. */
export function replays() {
  const earlier = [];
  const mischief = ({ bytes, said, kind }, pass) => {
    pass(bytes);
    if (!kind && !said.arrived) return;
    pass(bytes);
    earlier.push(() => pass(bytes));
  };
  return Object.assign(mischief, { again: () => earlier.forEach((repeat) => repeat()) });
}

/** Signals come `ms` late, and the last ones first. */
export function reorders(ms) {
  const held = [];
  return ({ bytes, kind }, pass) => {
    if (!kind) return pass(bytes);
    if (held.length === 0) setTimeout(() => held.splice(0).forEach((late) => pass(late)), ms);
    held.unshift(bytes);
  };
}

/** The first signal of each of `kinds` does not come, or only with `late()`. */
export function drops(...kinds) {
  const dropped = new Map();
  const mischief = ({ bytes, kind }, pass) => {
    if (!kinds.includes(kind) || dropped.has(kind)) return pass(bytes);
    dropped.set(kind, () => pass(bytes));
  };
  return Object.assign(mischief, { late: () => dropped.forEach((release) => release()) });
}

/** Before and after the truth, arrivals and signals of others come as if they were of the member named `name`. */
export function disguises(name) {
  let spy; // its presence
  return ({ bytes, said, envelope, body }, pass) => {
    const lies = [];
    const presence = said.arrived?.presence;
    const shown = presence && wire.PresenceBody.decode(presence.body);
    if (shown?.name === name) {
      spy = { member: Buffer.concat([presence.key, shown.session]), seal: shown.seal };
    } else if (shown && spy) {
      lies.push(changed(bytes, presence.key, spy.member.subarray(0, 32)), changed(bytes, shown.seal, spy.seal));
    } else if (body && spy) {
      lies.push(changed(bytes, body.from, spy.member), changed(bytes, body.from, spy.member, bytes.indexOf(envelope.body)));
    }
    for (const some of [...lies, bytes, ...lies]) pass(some);
  };
}

/** After each signal come a goodbye and an offer in its sender's name, from somebody who knows the secret of the app. */
export function impersonates(name, secret) {
  const knows = (async () => {
    const password = new TextEncoder().encode(secret);
    const app = await crypto.appId(name, password);
    return { app, key: await crypto.sealSecret(app, password), identity: await crypto.newIdentity() };
  })();
  let sequence = 0xffffn; // far from those of the sender, which would be taken for repeats
  return async ({ bytes, said, body, kind }, pass, tap) => {
    pass(bytes);
    if (!kind) return;
    const { app, key, identity } = await knows;
    const seal = tap.seals.get(Buffer.from(body.to).toString('hex'));
    for (const [forged, plain] of [[wire.Kind.bye, ''], [wire.Kind.offer, NO_OFFER]]) {
      sequence += 1n;
      const header = { app, from: body.from, to: body.to, sequence, kind: forged };
      const envelope = await crypto.sealEnvelope(identity, header, seal, key, new TextEncoder().encode(plain));
      pass(wire.ToPeer.encode({ delivered: { ...said.delivered, envelope } }));
    }
  };
}

/** Copies of a frame with a bit flipped, all over the signed body that `part` is of it, and over its signature. */
function forgeries(bytes, { body, signature }) {
  return [body, signature].flatMap((part) => Array.from({ length: SPOTS },
    (_, i) => changed(bytes, part, flipped(part, Math.floor((i * part.length) / SPOTS)))));
}

/** A copy of `bytes` in which `old`, where it first is after `from`, is `fresh`. */
function changed(bytes, old, fresh, from = 0) {
  const at = bytes.indexOf(old, from);
  if (at < 0) throw new Error('the frame has no such bytes');
  const copy = Buffer.from(bytes);
  copy.set(fresh, at);
  return copy;
}

function flipped(bytes, at) {
  const copy = Buffer.from(bytes);
  copy[at] ^= 1;
  return copy;
}
