// What stands between this peer and others: the node, STUN and TURN servers, and the network that it is on. Everything is tried
// anew, at once, and closed again.

import { kindOf } from './ice.ts';
import { type Trouble, troublesOf } from './troubles.ts';
import type { Transport, Way } from './way.ts';

const TRIED_FOR = 6000;
const MAX_STUN = 4;
const MAX_TURN = 8;

export interface DiagnoseOptions {
  /** Ends it: what it opened is closed, and the promise is rejected. */
  readonly signal?: AbortSignal;
  /** Also tells the IP addresses that were found, which are personal data. */
  readonly addresses?: boolean;
}

/** A server that was tried; `ms` is the time to its answer. */
export interface Tried {
  readonly url: string;
  readonly ok: boolean;
  readonly ms?: number;
}

/** A TURN server. `denied`: it did not take the credentials; `full`: it has no room for this peer; `no_reply`: all else. */
export interface TriedTurn extends Tried {
  readonly transport: Transport;
  readonly why?: 'denied' | 'full' | 'no_reply';
}

/** What `room.diagnose` finds. It is plain data, fit for JSON. */
export interface Diagnosis {
  /** There are no troubles. */
  readonly ok: boolean;
  /** Milliseconds. */
  readonly took: number;
  /** The node in use, or the first that was named, by a further WebSocket up to a login. */
  readonly node: Tried;
  readonly stun: readonly Tried[];
  readonly turn: readonly TriedTurn[];
  /** How many addresses of each kind the browser found; `mdns`: host addresses that it hides behind a name. */
  readonly candidates: { readonly host: number; readonly mdns: number; readonly srflx: number; readonly relay: number };
  /** Only when they were asked for. */
  readonly addresses?: readonly string[];
  /**
   * A guess. `cone`: every server sees the same port, so that direct connections work with most; `symmetric`: each sees another, so
   * that many need TURN; `none`: the address is this machine's own.
   */
  readonly nat: 'none' | 'cone' | 'symmetric' | 'unknown';
  readonly udp: 'open' | 'blocked' | 'unknown';
  readonly ipv6: 'yes' | 'no' | 'unknown';
  /** Who is connected, and how. */
  readonly peers: readonly ({ readonly id: string; readonly session: string } & Partial<Way>)[];
  readonly troubles: readonly Trouble[];
}

/** What is to be tried. */
export interface Subject {
  readonly rtc: typeof RTCPeerConnection | undefined;
  readonly configuration: RTCConfiguration;
  readonly node: string;
  /** Logs in at the node, and ends that. */
  greet(signal: AbortSignal): Promise<void>;
  readonly peers: Diagnosis['peers'];
}

interface Candidate {
  readonly address: string;
  readonly port: string;
  readonly type: string;
  /** The own address that it is of, as far as that is told. */
  readonly base: string;
}

interface Gathered {
  readonly candidates: Candidate[];
  readonly errors: number[];
  /** The browser tells errors. */
  readonly tells: boolean;
  /** It was not cut short. */
  readonly complete: boolean;
  readonly ms: number;
}

const urlOf = ({ urls }: RTCIceServer) => String(urls);

export async function diagnose(subject: Subject, { signal, addresses = false }: DiagnoseOptions): Promise<Diagnosis> {
  signal?.throwIfAborted();
  const began = performance.now();
  const stop = new AbortController();
  const abort = () => stop.abort();
  const timer = setTimeout(abort, TRIED_FOR);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const { iceServers = [] } = subject.configuration;
    const servers = iceServers.flatMap((server) => [server.urls].flat().map((urls) => ({ ...server, urls })));
    const stun = servers.filter((server) => kindOf(urlOf(server)) === 'stun').slice(0, MAX_STUN);
    const turn = servers.filter((server) => urlOf(server).startsWith('turn')).slice(0, MAX_TURN);
    const gather = (iceServers: RTCIceServer[], iceTransportPolicy: RTCIceTransportPolicy, enough?: string) =>
      gathered(subject.rtc, { iceServers, iceTransportPolicy }, stop.signal, enough);
    const [node, all, stuns, turns] = await Promise.all([
      tried(subject.node, () => subject.greet(stop.signal), stop.signal),
      gather(stun, 'all'),
      Promise.all(stun.map((server) => gather([server], 'all', 'srflx'))),
      Promise.all(turn.map((server) => gather([server], 'relay', 'relay'))),
    ]);
    signal?.throwIfAborted();
    const found = {
      node,
      stun: stun.map((server, i) => triedStun(urlOf(server), stuns[i])),
      turn: turn.map((server, i) => triedTurn(urlOf(server), turns[i])),
    };
    const candidates = [all, ...turns].flatMap((one) => one?.candidates ?? []);
    const facts = {
      ...found, candidates: counted(candidates), nat: natOf(all, found.stun), udp: udpOf(found), ipv6: ipv6Of(candidates),
      peers: subject.peers,
    };
    const troubles = troublesOf(facts, all !== undefined);
    return {
      ok: troubles.length === 0, took: Math.round(performance.now() - began), ...facts,
      ...(addresses && { addresses: [...new Set(candidates.map(({ address }) => address).filter((address) => !address.endsWith('.local')))] }),
      troubles,
    };
  } finally {
    clearTimeout(timer);
    stop.abort();
    signal?.removeEventListener('abort', abort);
  }
}

async function tried(url: string, task: () => Promise<void>, signal: AbortSignal): Promise<Tried> {
  const began = performance.now();
  const stopped = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
  try {
    await Promise.race([task(), stopped]);
    return { url, ok: true, ms: Math.round(performance.now() - began) };
  } catch {
    return { url, ok: false };
  }
}

/** Gathers candidates until all are found, or one of the type `enough`; undefined where there is no WebRTC. */
async function gathered(
  rtc: typeof RTCPeerConnection | undefined, configuration: RTCConfiguration, signal: AbortSignal, enough?: string,
): Promise<Gathered | undefined> {
  const began = performance.now();
  const candidates: Candidate[] = [];
  const errors: number[] = [];
  let pc: RTCPeerConnection | undefined;
  try {
    if (!rtc) return undefined;
    const own = pc = new rtc(configuration);
    const tells = 'onicecandidateerror' in own;
    const complete = await new Promise<boolean>((resolve, reject) => {
      signal.addEventListener('abort', () => resolve(false), { once: true });
      own.onicecandidateerror = ({ errorCode }) => errors.push(errorCode);
      own.onicecandidate = ({ candidate }) => {
        const parsed = candidate?.candidate && parse(candidate.candidate);
        if (parsed) candidates.push(parsed);
        if (!candidate || (parsed && parsed.type === enough)) resolve(!candidate);
      };
      own.createDataChannel('');
      own.createOffer().then((offer) => own.setLocalDescription(offer)).catch(reject);
    });
    return { candidates, errors, tells, complete, ms: Math.round(performance.now() - began) };
  } catch {
    return undefined;
  } finally {
    pc?.close();
  }
}

/** RFC 8839, 5.1, with the extension by which Chromium tells networks apart. */
function parse(line: string): Candidate | undefined {
  const [, address, port, type, rest = ''] = /^candidate:\S+ \d+ \S+ \d+ (\S+) (\d+) typ (\S+)(.*)/.exec(line) ?? [];
  if (address === undefined || port === undefined || type === undefined) return undefined;
  return { address, port, type, base: ['raddr', 'network-id'].map((name) => new RegExp(`${name} (\\S+)`).exec(rest)?.[1]).join() };
}

const isName = ({ address }: Candidate) => address.endsWith('.local');

function triedStun(url: string, of: Gathered | undefined): Tried {
  const answered = of?.candidates.some(({ type }) => type === 'srflx');
  // Who is told an address that is its own has no candidate of it. Where errors are told, there would be one otherwise.
  const own = of?.complete && of.tells && of.errors.length === 0
    && of.candidates.some((one) => one.type === 'host' && !isName(one));
  return answered || own ? { url, ok: true, ms: of?.ms ?? 0 } : { url, ok: false };
}

function triedTurn(url: string, of: Gathered | undefined): TriedTurn {
  const kind = kindOf(url);
  const transport = kind === 'tcp' || kind === 'tls' ? kind : 'udp';
  if (of?.candidates.some(({ type }) => type === 'relay')) return { url, transport, ok: true, ms: of.ms };
  const refused = (...codes: number[]) => of?.errors.some((code) => codes.includes(code));
  return { url, transport, ok: false, why: refused(401, 403, 438, 441) ? 'denied' : refused(486, 508) ? 'full' : 'no_reply' };
}

function counted(candidates: readonly Candidate[]): Diagnosis['candidates'] {
  const count = (type: string, names = false) => candidates.filter((one) => one.type === type && isName(one) === names).length;
  return { host: count('host'), mdns: count('host', true), srflx: count('srflx'), relay: count('relay') };
}

/** Whether the ports that servers see of one own socket are the same. */
function natOf(of: Gathered | undefined, stun: readonly Tried[]): Diagnosis['nat'] {
  const mapped = of?.candidates.filter(({ type, address }) => type === 'srflx' && !address.includes(':')) ?? [];
  const own = of?.candidates.filter(({ type }) => type === 'host').map(({ address }) => address) ?? [];
  const answers = stun.filter(({ ok }) => ok).length;
  if (answers > 0 && (mapped.length === 0 ? own.some((address) => /^[\d.]+$/.test(address)) : mapped.some(({ address }) => own.includes(address)))) return 'none';
  const bases = new Set(mapped.map(({ base }) => base)).size;
  if (mapped.length > bases) return 'symmetric';
  return answers > 1 && bases > 0 ? 'cone' : 'unknown';
}

function udpOf({ node, stun, turn }: Pick<Diagnosis, 'node' | 'stun' | 'turn'>): Diagnosis['udp'] {
  const tries = [...stun, ...turn.filter(({ transport }) => transport === 'udp')];
  if (tries.some(({ ok }) => ok)) return 'open';
  const reached = node.ok || turn.some(({ ok }) => ok);
  return tries.length > 0 && reached && turn.every(({ why }) => why !== 'denied' && why !== 'full') ? 'blocked' : 'unknown';
}

function ipv6Of(candidates: readonly Candidate[]): Diagnosis['ipv6'] {
  const shown = candidates.filter((one) => !isName(one)).map(({ address }) => address);
  if (shown.some((address) => /^[23][0-9a-f]{3}:/i.test(address))) return 'yes'; // what is routed
  return candidates.some(({ type, address }) => type === 'host' && shown.includes(address)) ? 'no' : 'unknown';
}
