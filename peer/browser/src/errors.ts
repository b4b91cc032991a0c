// Errors have a stable code, the same as on the wire and in Go (protocol/errors.go).

const CODES = [
  'ok', 'internal', 'malformed', 'too_large', 'rate', 'unknown_peer', 'node_gone', 'full',
  'denied', 'version', 'taken', 'stale', 'signature', 'expired', 'draining', 'refused',
] as const;

export type Code = (typeof CODES)[number];

/** A failure with a code for programs and a sentence for people. */
export class PeerserverError extends Error {
  override readonly name = 'PeerserverError';
  readonly code: Code;
  /** When it may be tried again, in milliseconds; 0: it is of no use. */
  readonly retryAfter: number;

  constructor(code: Code, message: string, retryAfter = 0) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Reads the number that travels. One of a later version is `internal`. */
  static of(code: number, message: string, retryAfter: number): PeerserverError {
    return new PeerserverError(CODES[code] ?? 'internal', message, retryAfter);
  }
}
