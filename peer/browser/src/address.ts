// Where a peer can be dialled: a member of an app of its own, on one node. As text it is a multiaddr:
//
//   /dns4/node.example/tcp/443/wss/p2p-webrtc-signal/<node id>/p2p/<peer id>
//
// What is accepted, and how it is spelt, is as in Go (protocol/address.go, protocol/vectors/addresses.json).

import { PeerserverError } from './errors.ts';

const MOST = 512; // bytes
const FORM = /^\/([^/]*)\/([^/]*)\/tcp\/([^/]*)\/(wss?)\/p2p-webrtc-signal\/([^/]*)\/p2p\/([^/]*)$/;
const ID = /^[ybndrfg8ejkmcpqxot1uwisza345h769]{51}[yo]$/; // the spare bits of the last letter are zero
const LABEL = /^[a-z0-9_-]{1,63}$/;

export interface Address {
  /** A name, or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** NodeID of the node that has to be found there, in z-base-32. */
  readonly node: string;
  /** PeerID, in z-base-32. */
  readonly peer: string;
}

/** Reads an address. Names may be said to be dns, dns4 or dns6; all are looked up alike, and printAddress prints dns4. */
export function parseAddress(text: string): Address {
  if (new TextEncoder().encode(text).length > MOST) throw new PeerserverError('too_large', `an address is at most ${MOST} bytes`);
  const [, kind = '', name = '', port = '', transport, node = '', peer = ''] = FORM.exec(text) ?? [];
  const host = hostOf(kind, name);
  if (host === undefined || !/^[1-9][0-9]{0,4}$/.test(port) || Number(port) > 65535 || !ID.test(node) || !ID.test(peer)) {
    throw new PeerserverError('malformed', 'an address is of the form /dns4/host/tcp/443/wss/p2p-webrtc-signal/<node id>/p2p/<peer id>');
  }
  return { host, port: Number(port), tls: transport === 'wss', node, peer };
}

/** The one text of an address. */
export function printAddress(a: Address): string {
  const kind = a.host.includes(':') ? 'ip6' : isIPv4(a.host) ? 'ip4' : 'dns4';
  return `/${kind}/${a.host}/tcp/${a.port}/${a.tls ? 'wss' : 'ws'}/p2p-webrtc-signal/${a.node}/p2p/${a.peer}`;
}

/** The node's URL, with the port where it is not the usual one. */
export function addressURL(a: Address): string {
  const host = a.host.includes(':') ? `[${a.host}]` : a.host;
  return `${a.tls ? 'wss' : 'ws'}://${host}${a.port === (a.tls ? 443 : 80) ? '' : `:${a.port}`}`;
}

/** Where a peer is reached on a node that is known by its URL. */
export function addressOf(url: string, node: string, peer: string): Address {
  const [, scheme, ip6, name, port] = /^(wss?):\/\/(?:\[([^[\]/]*)\]|([^:[\]/]*))(?::([^/]*))?$/.exec(url) ?? [];
  const host = ip6 ?? name ?? '';
  const kind = ip6 !== undefined ? 'ip6' : isIPv4(host) ? 'ip4' : 'dns4';
  return parseAddress(`/${kind}/${host}/tcp/${port ?? (scheme === 'wss' ? 443 : 80)}/${scheme}/p2p-webrtc-signal/${node}/p2p/${peer}`);
}

/** A host of a kind in its one spelling. */
function hostOf(kind: string, host: string): string | undefined {
  if (kind === 'ip4') return isIPv4(host) ? host : undefined;
  if (kind === 'ip6') return /^[0-9a-fA-F:.]{2,45}$/.test(host) ? ipv6(host) : undefined;
  if (!/^dns[46]?$/.test(kind) || !/^[A-Za-z0-9_.-]{1,253}$/.test(host)) return undefined;
  const labels = host.toLowerCase().split('.');
  // Browsers take a name whose last label begins with a digit for an IP address.
  if (!labels.every((label) => LABEL.test(label)) || /^[0-9]/.test(labels.at(-1) ?? '')) return undefined;
  return labels.join('.');
}

function isIPv4(host: string): boolean {
  return /^(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}$/.test(host) && host.split('.').every((n) => Number(n) <= 255);
}

/** The shortest form, as URLs have it. An IPv4 address in IPv6 has its own kind. */
function ipv6(host: string): string | undefined {
  try {
    const short = new URL(`ws://[${host}]`).hostname.slice(1, -1);
    return short.startsWith('::ffff:') && short.split(':').length === 5 ? undefined : short;
  } catch {
    return undefined;
  }
}
