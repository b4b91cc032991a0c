// The STUN and TURN servers that connections use: those that the node gives, or those that the app names instead.

import type { IceServers, Of } from './wire.ts';

const MAX_URLS = 16; // in all
const MAX_URL = 300;
const MAX_CREDENTIAL = 512; // bytes of a user name in STUN, and some for a password
const STUN_URLS = 2; // that a connection asks at first
const TTL = { usual: 3600, least: 30, most: 86_400 }; // seconds
const RENEWED_AFTER = 0.6; // of the time that credentials are good for, and a little more, so that not all ask at once
const OLD_AFTER = 0.2; // of it: what was configured before then would expire before the next renewal
const RETRY_AFTER = 60_000;

type Given = Of<typeof IceServers>;

export interface ServersOptions {
  readonly iceServers?: RTCIceServer[] | undefined;
  readonly iceTransportPolicy?: RTCIceTransportPolicy | undefined;
}

/** What Servers need of their room. */
export interface ServersRoom {
  /** Asks the node. */
  ask(): Promise<Given | undefined>;
  /** There are other credentials: a connection that has its own for longer than `age` milliseconds needs them. */
  renewed(age: number): void;
}

export class Servers {
  readonly #room: ServersRoom;
  readonly #policy: RTCIceTransportPolicy;
  readonly #fixed: boolean;
  #few: RTCConfiguration;
  #all: RTCConfiguration;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(options: ServersOptions, room: ServersRoom) {
    this.#room = room;
    this.#policy = options.iceTransportPolicy ?? 'all';
    this.#fixed = options.iceServers !== undefined;
    this.#few = this.#all = this.#configuration(options.iceServers ?? []);
  }

  /**
   * The same object until there are other servers. Each URL of a TURN server costs that server an allocation for as long as a
   * connection lives, needed or not: so a connection begins with `few`, and has them all when these have not led to the other side.
   */
  configuration(few: boolean): RTCConfiguration {
    return few ? this.#few : this.#all;
  }

  /** Takes what a node gives. One that gives nothing leaves those that there are. */
  take(given: Given | undefined): void {
    if (!given || this.#fixed || this.#closed) return;
    const servers = checked(given.servers);
    this.#all = this.#configuration(servers);
    const few = fewOf(servers);
    this.#few = few.length < servers.length ? this.#configuration(few) : this.#all;
    const ttl = Math.min(Math.max(given.ttl || TTL.usual, TTL.least), TTL.most) * 1000;
    this.#renewIn(ttl * (RENEWED_AFTER + Math.random() * 0.15));
    this.#room.renewed(ttl * OLD_AFTER);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #configuration(iceServers: RTCIceServer[]): RTCConfiguration {
    return { iceServers, iceTransportPolicy: this.#policy };
  }

  #renewIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#renewIn(RETRY_AFTER);
      this.#room.ask().then((given) => this.take(given), () => {});
    }, ms);
  }
}

/**
 * What a node says is input: a browser throws at the first URL that it does not know, and would send to whatever it is told to. One
 * URL to each server, the first ones first; ports as nodes may be dialled at.
 */
export function checked(given: Given['servers']): RTCIceServer[] {
  const servers: RTCIceServer[] = [];
  for (const { urls, username, credential } of given.slice(0, MAX_URLS)) {
    for (const url of urls.slice(0, MAX_URLS)) {
      const kind = kindOf(url);
      if (!kind || servers.length >= MAX_URLS) continue;
      if (kind === 'stun') servers.push({ urls: url });
      else if (fits(username) && fits(credential)) servers.push({ urls: url, username, credential });
    }
  }
  return servers;
}

function fits(text: string): boolean {
  return text !== '' && text.length <= MAX_CREDENTIAL;
}

/** What is asked at such a URL, and for TURN over which transport; undefined for one that is not used (RFC 7064, 7065). */
export function kindOf(url: string): 'stun' | 'udp' | 'tcp' | 'tls' | undefined {
  if (url.length > MAX_URL) return undefined;
  const [, scheme, port, transport] = /^(stun|turns?):(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?$/i.exec(url) ?? [];
  const at = Number(port ?? 3478);
  if (scheme === undefined || at > 65_535 || (at < 1024 && at !== 443 && at !== 80)) return undefined;
  switch (scheme.toLowerCase()) {
    case 'stun': return transport === undefined ? 'stun' : undefined;
    case 'turns': return transport === 'udp' ? undefined : 'tls';
    default: return transport === 'tcp' ? 'tcp' : 'udp';
  }
}

/** STUN, and one TURN server, over UDP if there is one. */
function fewOf(servers: readonly RTCIceServer[]): RTCIceServer[] {
  const of = (...kinds: unknown[]) => servers.filter(({ urls }) => kinds.includes(kindOf(String(urls))));
  return [...of('stun').slice(0, STUN_URLS), ...[...of('udp'), ...of('tcp', 'tls')].slice(0, 1)];
}
