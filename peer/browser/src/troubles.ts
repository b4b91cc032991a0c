// What a diagnosis means for the person in front of the browser.

import type { Diagnosis } from './diagnose.ts';

/** Something that keeps connections from coming to be or from being good: a code for programs, a sentence of what to do for people. */
export interface Trouble {
  readonly code: TroubleCode;
  readonly text: string;
}

const TEXTS = {
  no_webrtc: 'This browser has no WebRTC, or it is switched off: allow it for this page, or use another browser.',
  no_candidates: 'The browser finds no address of its own: see whether it is offline, or an extension, a VPN or a policy keeps WebRTC from the network.',
  node_gone: 'The node cannot be reached: see whether it is up, whether its URL is right, and whether a firewall or proxy lets WebSockets pass.',
  no_servers: 'There is no STUN or TURN server, so peers of other networks are hardly reached: use a node that has them, or name some as iceServers.',
  udp_blocked: 'UDP does not pass: have the firewall of this network let it out, or use a node with TURN over TCP or TLS.',
  stun_no_reply: 'A STUN server does not answer: see whether it is up, and whether UDP to its port passes the firewalls on the way.',
  nat_symmetric: 'The router gives each destination another port, so that many direct connections fail: use a node with TURN, IPv6, or another router.',
  no_turn: 'No TURN server is known, and this network may need one: use a node that runs with --turn, or name one as iceServers.',
  turn_denied: 'A TURN server does not take the credentials: reload the page, and see whether the clocks of the nodes are right.',
  turn_full: 'A TURN server has no room for this peer: close what is not needed, or have the limits of the node raised.',
  turn_no_reply: 'A TURN server does not answer: see whether it is up, and whether firewalls on the way let its port pass.',
  peers_over_nodes: 'Some peers are reached over nodes only, which is slow: see what else is told here, at their ends too.',
} as const;

export type TroubleCode = keyof typeof TEXTS;

/** The gravest first. */
export function troublesOf(facts: Pick<Diagnosis, 'node' | 'stun' | 'turn' | 'candidates' | 'nat' | 'udp' | 'peers'>, webRTC: boolean): Trouble[] {
  const { node, stun, turn, candidates, nat, udp, peers } = facts;
  const relays = turn.some(({ ok }) => ok);
  const failed = (...reasons: unknown[]) => turn.some(({ why }) => reasons.includes(why));
  const hard = nat === 'symmetric' || udp === 'blocked';
  const found: { readonly [code in TroubleCode]: boolean } = {
    no_webrtc: !webRTC,
    no_candidates: webRTC && Object.values(candidates).every((count) => count === 0),
    node_gone: !node.ok,
    no_servers: stun.length + turn.length === 0,
    udp_blocked: udp === 'blocked',
    stun_no_reply: udp !== 'blocked' && stun.some(({ ok }) => !ok),
    nat_symmetric: nat === 'symmetric' && !relays,
    no_turn: hard && turn.length === 0,
    turn_denied: failed('denied'),
    turn_full: failed('full'),
    turn_no_reply: turn.some(({ why, transport }) => why === 'no_reply' && !(udp === 'blocked' && transport === 'udp')),
    peers_over_nodes: peers.some(({ path }) => path === 'nodes'),
  };
  return (Object.keys(found) as TroubleCode[]).filter((code) => found[code]).map((code) => ({ code, text: TEXTS[code] }));
}
