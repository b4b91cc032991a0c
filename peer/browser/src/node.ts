// A connection to a node: login, requests and their answers, and what the node says by itself.

import type { Init } from './codec.ts';
import { type Identity, signLogin, verifyWelcome } from './crypto.ts';
import { Events } from './events.ts';
import { PeerserverError } from './errors.ts';
import { type Of, type SignedRecord, ToNode, ToPeer } from './wire.ts';

const ANSWERED_WITHIN = 10_000;
const MAX_PENDING = 1024;
const RESTARTS = 1012; // close code of a node that stops
const BEAT_EVERY = 10_000;
const DOUBT_FOR = 2000;
const SILENT_FOR = 25_000; // two beats and their answers lost

type Said = Of<typeof ToPeer>;

/** Resolves when the node has let this peer in. `url` is ws:// or wss:// and a host; a private node is shown a token. */
export async function connect(
  url: string, identity: Identity, webSocket: typeof WebSocket, signal?: AbortSignal, token?: string,
): Promise<NodeConnection> {
  const socket = new webSocket(`${url}/v1${token === undefined ? '' : `?token=${token}`}`, 'peerserver.v1');
  socket.binaryType = 'arraybuffer';
  const node = new NodeConnection(url, socket);
  const stop = () => node.close();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const challenge = await node.challenged;
    node.id = challenge.node;
    const login = await signLogin(identity, challenge, url);
    const { welcome } = await node.ask({ login });
    await verifyWelcome(welcome ?? { nodes: [], signature: new Uint8Array(0) }, challenge, login);
    node.others = welcome?.nodes ?? [];
    return node;
  } catch (err) {
    node.close();
    throw signal?.aborted ? signal.reason : err;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

interface Pending {
  resolve: (said: Said) => void;
  reject: (err: Error) => void;
  timer: ReturnType<typeof setTimeout>;
}

export class NodeConnection extends Events<{ said: [said: Said]; closed: [] }> {
  readonly url: string;
  /** NodeID, which it has proved. */
  id: Uint8Array = new Uint8Array(0);
  /** Records of this node and of others, from its welcome. */
  others: Of<typeof SignedRecord>[] = [];
  readonly challenged: Promise<NonNullable<Said['challenge']>>;
  readonly #socket: WebSocket;
  readonly #pending = new Map<number, Pending>();
  #ref = 0;
  #closed = false;
  /** It said that it stops. */
  drained = false;
  #heard = performance.now();
  #unanswered = 0; // beats
  #doubted = false;
  readonly #beats: ReturnType<typeof setInterval>;

  constructor(url: string, socket: WebSocket) {
    super();
    this.url = url;
    this.#socket = socket;
    this.challenged = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new PeerserverError('node_gone', `${url} does not answer; is it a peerserver?`)), ANSWERED_WITHIN);
      this.on('said', (said) => {
        clearTimeout(timer);
        if (said.challenge) resolve(said.challenge);
        // A private node, or a full one.
        else if (said.refused) reject(PeerserverError.of(said.refused.code, said.refused.text, said.refused.retryAfter));
      });
      this.on('closed', () => {
        clearTimeout(timer);
        reject(new PeerserverError('node_gone', `${url} is not reached`));
      });
    });
    this.challenged.catch(() => {}); // whoever waits for it is told
    this.#beats = setInterval(() => this.#beat(), BEAT_EVERY);
    socket.addEventListener('message', (event: MessageEvent<unknown>) => this.#take(event.data));
    socket.addEventListener('close', (event) => {
      this.drained = event.code === RESTARTS;
      this.close();
    });
    socket.addEventListener('error', () => this.close());
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Asks for a sign of life. Timers of a tab in the background may come late, so silence counts only after beats that were not
   * answered.
   */
  #beat(): void {
    if (this.#unanswered >= 2 && performance.now() - this.#heard > SILENT_FOR) return this.close();
    this.#unanswered++;
    this.ask({ beat: {} }).catch(() => {});
  }

  /** The network may have changed: a node that does not answer soon is gone. */
  doubt(): void {
    if (this.#doubted) return;
    this.#doubted = true;
    const asked = performance.now();
    this.ask({ beat: {} }).catch(() => {});
    setTimeout(() => {
      this.#doubted = false;
      if (this.#heard < asked) this.close();
    }, DOUBT_FOR);
  }

  #take(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return;
    this.#heard = performance.now();
    this.#unanswered = 0;
    let said: Said;
    try {
      said = ToPeer.decode(new Uint8Array(data));
    } catch {
      this.close(); // it is no node of ours
      return;
    }
    const pending = this.#pending.get(said.ref);
    if (said.ref !== 0 && pending) {
      this.#pending.delete(said.ref);
      clearTimeout(pending.timer);
      if (said.refused) pending.reject(PeerserverError.of(said.refused.code, said.refused.text, said.refused.retryAfter));
      else pending.resolve(said);
      return;
    }
    this.emit('said', said);
  }

  /** Sends a request and waits for its answer; one that is refused is an error with a code. */
  ask(request: Omit<Init<typeof ToNode.fields>, 'ref'>): Promise<Said> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new PeerserverError('node_gone', 'the connection to the node has ended'));
      if (this.#pending.size >= MAX_PENDING) return reject(new PeerserverError('full', 'too many requests wait for an answer', 1000));
      this.#ref = this.#ref >= 0x7fffffff ? 1 : this.#ref + 1;
      const ref = this.#ref;
      const timer = setTimeout(() => {
        this.#pending.delete(ref);
        reject(new PeerserverError('node_gone', 'the node does not answer'));
      }, ANSWERED_WITHIN);
      this.#pending.set(ref, { resolve, reject, timer });
      this.#socket.send(ToNode.encode({ ...request, ref }) as Uint8Array<ArrayBuffer>);
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#beats);
    this.#socket.close();
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new PeerserverError('node_gone', 'the connection to the node has ended'));
    }
    this.#pending.clear();
    this.emit('closed');
  }
}
