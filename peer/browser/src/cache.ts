// The nodes that were learnt, kept by the origin for a time when none of those that the app names is reached.

import { hex, unhex } from './bytes.ts';

const KEY = 'peerserver.nodes';
const MOST = 32;

export interface CachedNode {
  readonly url: string;
  readonly key: Uint8Array; // NodeID, which it has to prove
}

/** None where nothing is kept, or what is kept is not ours. */
export function cachedNodes(): CachedNode[] {
  try {
    const list: unknown = JSON.parse(globalThis.localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(list) ? list.slice(0, MOST).flatMap(parsed) : [];
  } catch {
    return []; // no localStorage: not a page, or one that may keep nothing
  }
}

/** Keeps the newest, besides those that were kept before. */
export function cacheNodes(nodes: readonly CachedNode[]): void {
  const all = new Map(cachedNodes().map(({ url, key }) => [url, key]));
  for (const { url, key } of nodes) {
    all.delete(url); // so that it is among the newest
    all.set(url, key);
  }
  const newest = [...all].slice(-MOST).map(([url, key]) => ({ url, key: hex(key) }));
  try {
    globalThis.localStorage.setItem(KEY, JSON.stringify(newest));
  } catch {
    // it is full, or there is none
  }
}

function parsed(kept: unknown): CachedNode[] {
  if (typeof kept !== 'object' || kept === null || !('url' in kept) || !('key' in kept)) return [];
  const { url, key } = kept;
  if (typeof url !== 'string' || !/^wss?:\/\/[^/]+$/.test(url) || typeof key !== 'string' || !/^[0-9a-f]{64}$/.test(key)) return [];
  return [{ url, key: unhex(key) }];
}
