// What a page waits for: a promise for each name, made by whoever asks or tells first.

export const now = () => performance.timeOrigin + performance.now();

export class Meetings {
  #all = new Map();

  of(name) {
    if (!this.#all.has(name)) {
      let resolve;
      const promise = new Promise((r) => {
        resolve = r;
      });
      this.#all.set(name, { promise, resolve });
    }
    return this.#all.get(name);
  }
}
