// When the network of this machine changes, as far as the browser tells.

const DOUBT_LEAST = 5000; // between two doubts

type Information = EventTarget & { readonly type?: string };

/** Calls `changed` when the network does, and `doubtful` when it may have; answers what ends that. */
export function onNetworkChange(changed: () => void, doubtful: () => void): (() => void)[] {
  const offs: (() => void)[] = [];
  const listen = (target: EventTarget, event: string, listener: () => void) => {
    target.addEventListener(event, listener);
    offs.push(() => target.removeEventListener(event, listener));
  };
  if (typeof window !== 'undefined') listen(window, 'online', changed);
  const connection = (globalThis.navigator as (Navigator & { connection?: Information }) | undefined)?.connection;
  if (connection) {
    let type = connection.type; // the event comes with every estimate of the speed too, and on desktops there is no type
    let doubted = -Infinity;
    listen(connection, 'change', () => {
      const now = performance.now();
      if (connection.type !== type) changed();
      else if (now - doubted > DOUBT_LEAST) {
        doubted = now;
        doubtful();
      }
      type = connection.type;
    });
  }
  return offs;
}
