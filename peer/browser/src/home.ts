// The node that a room is on, and the others that it may go to: two are tried at a time, and when the one in use is gone the
// next is taken.

import { equal, printed } from './bytes.ts';
import { cacheNodes, cachedNodes } from './cache.ts';
import type { Identity } from './crypto.ts';
import { PeerserverError } from './errors.ts';
import { Events } from './events.ts';
import { connect, type NodeConnection } from './node.ts';
import { type Of, RecordBody, type SignedRecord } from './wire.ts';

const MAX_NODES = 64;
const RETRY_LEAST = 250;
const RETRY_MOST = { soon: 3000, later: 30_000 };
const SOON = 60_000; // since a node was lost
const STEADY_FOR = 10_000; // on a node, before joining anew is not a repetition

export interface HomeOptions {
  readonly nodes: readonly string[];
  readonly identity: Identity;
  readonly webSocket: typeof WebSocket;
  readonly signal?: AbortSignal | undefined;
  /** Id of the node that all URLs have to lead to, in z-base-32, if there is to be no other. */
  readonly only?: string | undefined;
  /** Whether the nodes that are learnt are kept, and used when none of the others is reached. */
  readonly cache: boolean;
  /** Joins on a node, of which there is one at a time. */
  readonly join: (node: NodeConnection) => Promise<void>;
}

/** A node as an app names it: its URL and, if it is private, the token that stands behind it or in its path, as it is spelt there. */
export function nodeOf(given: string): { url: string; token: string } {
  const text = given.replace(/^http/, 'ws');
  const [, url, inPath, behind] = /^(wss?:\/\/[^/?#]+)(?:\/t\/([^/?#]+))?\/*(?:\?token=([^&#]*))?$/.exec(text) ?? [];
  return url === undefined ? { url: text.replace(/\/+$/, ''), token: '' } : { url, token: inPath ?? behind ?? '' };
}

/** Events: `node` when another one is used, undefined while there is none; `lost` when it was lost and had not said that it stops. */
export class Home extends Events<{ node: [node: NodeConnection | undefined]; lost: [] }> {
  readonly #options: HomeOptions;
  readonly #urls = new Set<string>();
  readonly #keys = new Map<string, Uint8Array>(); // of those that other nodes have named
  readonly #tokens = new Map<string, string>(); // of private nodes that were given; no other node is shown one
  readonly #tls: boolean;
  #node: NodeConnection | undefined;
  #joining: NodeConnection | undefined;
  #joined = 0; // when
  #closed = false;
  #wake = () => {};
  #turn: Promise<void> = Promise.resolve();

  constructor(options: HomeOptions) {
    super();
    this.#options = options;
    for (const { url, token } of options.nodes.map(nodeOf)) {
      this.#urls.add(url);
      if (token !== '') this.#tokens.set(url, token);
    }
    this.#tls = [...this.#urls].every((url) => url.startsWith('wss:'));
  }

  /** The node in use. */
  get node(): NodeConnection | undefined {
    return this.#node;
  }

  /** Joins on the first node that lets in. */
  async enter(): Promise<void> {
    if (this.#urls.size === 0) throw new PeerserverError('malformed', 'join: nodes has to name a node, such as wss://node.example.org');
    try {
      await this.#race([...this.#urls]);
    } catch (err) {
      const kept = this.#recall();
      if (kept.length === 0 || this.#closed) throw err;
      await this.#race(kept).catch(() => {
        throw err;
      });
    }
  }

  /** Nodes that were learnt at another time. */
  #recall(): string[] {
    if (!this.#options.cache || this.#options.only !== undefined) return [];
    return cachedNodes().filter(({ url, key }) => this.#add(url, key)).map(({ url }) => url);
  }

  close(): void {
    this.#closed = true;
    this.#node?.close();
    this.#joining?.close();
    this.#wake();
  }

  /** The network has changed: the connection to the node is one of the network before, and what would be tried later is tried now. */
  hurry(): void {
    const node = this.#node;
    this.#wake();
    if (!node) return;
    this.#left(node);
    node.close();
  }

  /** It may have changed. */
  doubt(): void {
    this.#node?.doubt();
  }

  /** The node in use, or else the first one. */
  get usual(): string {
    return this.#node?.url ?? [...this.#urls][0] ?? '';
  }

  /** Logs in at the usual node once more, and ends that. */
  async greet(signal: AbortSignal): Promise<void> {
    const { identity, webSocket } = this.#options;
    (await connect(this.usual, identity, webSocket, signal, this.#tokens.get(this.usual))).close();
  }

  async #race(urls: string[]): Promise<void> {
    let failure: unknown;
    const rest = [...urls];
    const lane = async () => {
      for (let url = rest.shift(); url !== undefined && !this.#node && !this.#closed; url = rest.shift()) {
        try {
          await this.#use(url);
        } catch (err) {
          failure = err;
        }
      }
    };
    await Promise.all([lane(), lane()]);
    if (!this.#node) throw failure ?? new PeerserverError('node_gone', 'join: no node was reached');
  }

  async #use(url: string): Promise<void> {
    const { identity, webSocket, signal } = this.#options;
    const node = await connect(url, identity, webSocket, signal, this.#tokens.get(url));
    const key = this.#keys.get(url);
    const { only } = this.#options;
    if ((key && !equal(key, node.id)) || (only !== undefined && only !== printed(node.id))) {
      node.close();
      throw new PeerserverError('denied', `${url} is another node than the one that was named`);
    }
    // They race up to here; then it is one after the other, so that there is one membership.
    const turn = this.#turn.then(() => this.#join(node));
    this.#turn = turn.catch(() => {});
    await turn;
  }

  async #join(node: NodeConnection): Promise<void> {
    if (this.#node || this.#closed) return node.close();
    this.#joining = node;
    for (const record of node.others) this.#learn(record);
    try {
      await this.#options.join(node);
    } catch (err) {
      node.close();
      throw err;
    } finally {
      this.#joining = undefined;
    }
    if (node.closed || this.#closed) return node.close();
    this.#node = node;
    this.#joined = performance.now();
    if (this.#options.cache) cacheNodes([...this.#keys].map(([url, key]) => ({ url, key })));
    node.on('closed', () => this.#lost(node));
    this.emit('node', node);
  }

  /** URLs that the record of a node has named. */
  urlsOf(node: NodeConnection): string[] {
    return [...this.#keys].filter(([, key]) => equal(key, node.id)).map(([url]) => url);
  }

  /** Remembers where else to go. That it is the node of the record is seen when it is dialled. */
  #learn(record: Of<typeof SignedRecord>): void {
    if (this.#options.only !== undefined) return;
    const start = record.value.indexOf(0x3a) + 1; // "length:"
    for (const url of RecordBody.decode(record.value.subarray(start)).urls) this.#add(url, record.key);
  }

  #add(url: string, key: Uint8Array): boolean {
    if (this.#urls.size >= MAX_NODES || this.#urls.has(url) || (this.#tls && !url.startsWith('wss:'))) return false;
    this.#urls.add(url);
    this.#keys.set(url, key);
    return true;
  }

  #lost(node: NodeConnection): void {
    if (this.#node !== node) return;
    this.#left(node);
    if (!this.#closed && !node.drained) this.emit('lost');
  }

  #left(node: NodeConnection): void {
    this.#node = undefined;
    if (this.#closed) return;
    this.emit('node', undefined);
    void this.#return(node);
  }

  /** Goes to another node, or back to the same, which keeps the membership for a moment. Connections live on meanwhile. */
  async #return(lost: NodeConnection): Promise<void> {
    const began = performance.now();
    let wait = performance.now() - this.#joined > STEADY_FOR ? 0 : RETRY_LEAST;
    while (!this.#closed && !this.#node) {
      if (wait > 0) await this.#pause(wait * (0.5 + Math.random()));
      const others = [...this.#urls].filter((url) => url !== lost.url).sort(() => Math.random() - 0.5);
      const [next, ...rest] = others;
      const first = lost.drained ? [...others, lost.url] : [lost.url, ...(next ? [next] : []), ...rest];
      await this.#race(first).catch(() => {});
      wait = Math.min(Math.max(2 * wait, RETRY_LEAST), performance.now() - began < SOON ? RETRY_MOST.soon : RETRY_MOST.later);
    }
  }

  /** Waits, but not longer than until there is reason to hurry. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
