// Typed listeners.

/** Calls listeners of named events; one that throws does not keep the others from being called. */
export class Events<M extends { readonly [name: string]: readonly unknown[] }> {
  readonly #listeners: { [N in keyof M]?: Set<(...args: M[N]) => void> } = {};

  /** Adds a listener, until the signal is aborted or the returned function is called. */
  on<N extends keyof M>(name: N, listener: (...args: M[N]) => void, options: { signal?: AbortSignal } = {}): () => void {
    const all = (this.#listeners[name] ??= new Set());
    all.add(listener);
    const off = () => void all.delete(listener);
    if (options.signal?.aborted) off();
    options.signal?.addEventListener('abort', off, { once: true });
    return off;
  }

  /** Used by the owner of the events. */
  emit<N extends keyof M>(name: N, ...args: M[N]): void {
    for (const listener of [...(this.#listeners[name] ?? [])]) {
      try {
        listener(...args);
      } catch (err) {
        queueMicrotask(() => { throw err; });
      }
    }
  }
}
