// Files that people in a room give to each other. A file is a stream of the call `file.read`, from any offset: so a download that was
// interrupted goes on where it was, as soon as its owner is there again.

const PIECE = 32_768;
const FOLD = 256; // pieces that become one Blob, which a browser may keep on disk
const MAX_OFFERS = 100; // of all others
const MAX_SIZE = 4 * 2 ** 30;

export class Files {
  #room;
  #mine = new Map(); // by id: the file
  #theirs = new Map(); // by owner and id: the download
  #off = [];

  constructor(room) {
    this.#room = room;
    this.#off.push(room.handle('file.read', (args, { send, signal }) => this.#read(args, send, signal)));
    this.#off.push(room.on('peer', (peer) => {
      for (const download of this.#theirs.values()) download.back(peer);
    }));
  }

  /** Makes a file one that others can take, and answers what they are told of it. */
  share(file) {
    const id = String(this.#mine.size + 1);
    this.#mine.set(id, file);
    return this.#said(id, file);
  }

  shared() {
    return [...this.#mine].map(([id, file]) => this.#said(id, file));
  }

  /** What somebody says that they share: a Download, undefined when it is known or nonsense. */
  offered(peer, said) {
    const { id, name, size } = said;
    if (typeof id !== 'string' || id.length > 20 || typeof name !== 'string' || !Number.isSafeInteger(size) || size < 0 || size > MAX_SIZE) return undefined;
    const key = `${peer.id}/${peer.session}/${id}`;
    if (this.#theirs.has(key) || this.#theirs.size >= MAX_OFFERS) return undefined;
    const download = new Download(peer, id, name.replace(/[\p{Cc}\p{Cf}/\\]+/gu, ' ').slice(0, 120) || 'a file', size);
    this.#theirs.set(key, download);
    return download;
  }

  end() {
    for (const off of this.#off) off?.();
    for (const download of this.#theirs.values()) download.end();
  }

  #said(id, file) {
    return { id, name: file.name, size: file.size };
  }

  async #read(args, send, signal) {
    const file = this.#mine.get(args?.id);
    const from = args?.from;
    if (!file || !Number.isSafeInteger(from) || from < 0 || from > file.size) throw new Error('there is no such file');
    for (let at = from; at < file.size && !signal.aborted; at += PIECE) {
      await send(new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()));
    }
  }
}

/** A file of somebody else. Its state is offered, running, paused, waiting for its owner, done or failed. */
export class Download {
  state = 'offered';
  got = 0;
  changed = () => {};
  #peer;
  #id;
  #parts = [];
  #loose = 0; // pieces at the end of parts that are not folded
  #stop = new AbortController();

  constructor(peer, id, name, size) {
    this.#peer = peer;
    this.#id = id;
    this.name = name;
    this.size = size;
  }

  /** Takes it, or goes on with it. */
  start() {
    if (this.state === 'running' || this.state === 'done') return;
    this.#run().catch(() => {});
  }

  pause() {
    if (this.state !== 'running' && this.state !== 'waiting') return;
    this.#become('paused');
    this.#stop.abort();
  }

  /** Its owner may be connected again. */
  back(peer) {
    if (peer.id !== this.#peer.id || peer.session !== this.#peer.session) return;
    this.#peer = peer;
    if (this.state === 'waiting') this.start();
  }

  /** The whole, when it is done. */
  blob() {
    return new Blob(this.#parts);
  }

  end() {
    this.#stop.abort();
    this.#parts = [];
  }

  async #run() {
    const stop = new AbortController();
    this.#stop = stop;
    this.#become('running');
    try {
      for await (const piece of this.#peer.stream('file.read', { id: this.#id, from: this.got }, { signal: stop.signal, timeout: Infinity })) {
        if (stop.signal.aborted) return;
        if (!(piece instanceof Uint8Array) || this.got + piece.length > this.size) throw new TypeError('that is not the file');
        this.#add(piece);
      }
      if (!stop.signal.aborted) this.#become(this.got === this.size ? 'done' : 'waiting');
    } catch (err) {
      if (stop.signal.aborted) return;
      this.#become(this.#peer.open ? 'failed' : 'waiting');
      if (err instanceof TypeError) throw err;
    }
  }

  #add(piece) {
    this.#parts.push(piece);
    this.got += piece.length;
    if (++this.#loose === FOLD) {
      this.#parts.push(new Blob(this.#parts.splice(-FOLD)));
      this.#loose = 0;
    }
    this.changed();
  }

  #become(state) {
    this.state = state;
    this.changed();
  }
}
