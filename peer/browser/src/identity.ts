// An identity that stays: in IndexedDB, as a key that cannot be taken out, where the browser has such keys.

import { type Identity, newIdentity } from './crypto.ts';
import { PeerserverError } from './errors.ts';

const DATABASE = 'peerserver';
const STORE = 'identities';

/**
 * The identity that this origin keeps under `name`, made when there is none. Tabs that open it share one id; each join is a
 * session of its own. Whoever can run scripts in the page can use the key, but not copy it; on pages of plain http, where there
 * is no WebCrypto, they can.
 */
export async function keptIdentity(name = 'default'): Promise<Identity> {
  const database = await opened();
  try {
    const kept: unknown = await done(database.transaction(STORE).objectStore(STORE).get(name));
    if (isIdentity(kept)) return kept;
    const made = await newIdentity();
    // Another tab may have been faster: what is there first stays.
    const store = database.transaction(STORE, 'readwrite').objectStore(STORE);
    const first: unknown = await done(store.get(name));
    if (isIdentity(first)) return first;
    await done(store.put(made, name));
    return made;
  } finally {
    database.close();
  }
}

/** Forgets it: the next time there is another one. */
export async function forgetIdentity(name = 'default'): Promise<void> {
  const database = await opened();
  try {
    await done(database.transaction(STORE, 'readwrite').objectStore(STORE).delete(name));
  } finally {
    database.close();
  }
}

function isIdentity(value: unknown): value is Identity {
  return typeof value === 'object' && value !== null && 'id' in value && value.id instanceof Uint8Array && 'key' in value
    && (value.key instanceof Uint8Array || (typeof CryptoKey !== 'undefined' && value.key instanceof CryptoKey));
}

function opened(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => void request.result.createObjectStore(STORE);
  return done(request);
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(new PeerserverError('internal', `the browser does not keep it: ${request.error?.message ?? ''}`));
  });
}
