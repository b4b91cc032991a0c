// How a peer is reached, and why not in a better way.

import { kindOf } from './ice.ts';

/** How a peer is reached: directly, over a TURN server, or over nodes. */
export type Path = 'direct' | 'turn' | 'nodes';

/** How this side reaches its TURN server. */
export type Transport = 'udp' | 'tcp' | 'tls';

/** Whose TURN server it is: this side's, the other side's, or each has its own. */
export type Server = 'own' | 'remote' | 'both';

/**
 * Why a way is not taken: `no_candidates`, one side has found no address for it; `no_reply`, it was tried and nobody answered;
 * `no_turn`, no TURN server is known; `turn_failed`, none of those that are known took this peer; `forbidden`, by
 * `iceTransportPolicy` or an empty `iceServers`.
 */
export type WhyNot = 'no_candidates' | 'no_reply' | 'no_turn' | 'turn_failed' | 'forbidden';

/** How a peer is reached, and why not in a better way. */
export interface Way {
  readonly path: Path;
  /** Of path `turn`; absent when only the other side uses a TURN server. */
  readonly transport?: Transport;
  /** Of path `turn`. */
  readonly server?: Server;
  /** Why it is not direct. */
  readonly noDirect?: WhyNot;
  /** Why it does not go over a TURN server either, of path `nodes`. */
  readonly noTurn?: WhyNot;
}

export type Reasons = Required<Pick<Way, 'noDirect' | 'noTurn'>>;
export type Leg = Pick<Way, 'transport' | 'server'> & { readonly path: 'direct' | 'turn' };

/** How an RTCPeerConnection goes, by its statistics. */
export function legOf(stats: RTCStatsReport): Leg {
  const all = [...stats.values()] as ({ id: string; type: string } & Record<string, unknown>)[];
  const byId = new Map(all.map((one) => [one.id, one]));
  const transport = all.find((one) => one.type === 'transport' && one['selectedCandidatePairId']);
  const pair = byId.get(String(transport?.['selectedCandidatePairId']))
    ?? all.find((one) => one.type === 'candidate-pair' && (one['selected'] === true || one['nominated'] === true));
  const [local, remote] = ['localCandidateId', 'remoteCandidateId'].map((id) => byId.get(String(pair?.[id])));
  return leg(local?.['candidateType'], remote?.['candidateType'], local?.['relayProtocol']);
}

/** The same at once, where the browser has that. It tells of which server a candidate is, but not yet how that is reached. */
export function legNow(pc: RTCPeerConnection): Leg | undefined {
  try {
    const { local, remote } = pc.sctp?.transport?.iceTransport?.getSelectedCandidatePair?.() ?? {};
    return local && remote && leg(local.type, remote.type, kindOf((local as { url?: string | null }).url ?? ''));
  } catch {
    return undefined; // an implementation for Node has the name only
  }
}

function leg(local: unknown, remote: unknown, protocol: unknown): Leg {
  if (local !== 'relay') return remote === 'relay' ? { path: 'turn', server: 'remote' } : { path: 'direct' };
  return { path: 'turn', server: remote === 'relay' ? 'both' : 'own', ...((protocol === 'udp' || protocol === 'tcp' || protocol === 'tls') && { transport: protocol }) };
}

/** Why an RTCPeerConnection has found no better way, by what its sides have told each other. */
export function reasonsOf(pc: RTCPeerConnection, { iceServers = [], iceTransportPolicy }: RTCConfiguration): Reasons {
  const [ours, theirs] = [pc.localDescription, pc.remoteDescription].map((description) => typesOf(description?.sdp ?? ''));
  const direct = (types: Set<unknown> | undefined) => types !== undefined && [...types].some((type) => type !== 'relay');
  const turn = iceServers.flatMap(({ urls }) => urls).some((url) => url.startsWith('turn'));
  return {
    noDirect: iceTransportPolicy === 'relay' ? 'forbidden' : direct(ours) && direct(theirs) ? 'no_reply' : 'no_candidates',
    noTurn: ours?.has('relay') || theirs?.has('relay') ? 'no_reply' : turn ? 'turn_failed' : 'no_turn',
  };
}

function typesOf(sdp: string): Set<unknown> {
  return new Set(Array.from(sdp.matchAll(/^a=candidate:.* typ (\w+)/gm), ([, type]) => type));
}
