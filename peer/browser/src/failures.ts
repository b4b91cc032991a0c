// Errors of calls as they travel.

import type { Init } from './codec.ts';
import { RemoteError } from './commands.ts';
import { PeerserverError } from './errors.ts';
import { MAX_PART, Parts, partsOf } from './values.ts';
import type { CallError, Of } from './wire.ts';

const MAX_CODE = 64;
const MAX_TEXT = 1 << 10;

/** What an error of a handler is to its caller. */
export function failureOf(id: number, err: unknown): Init<typeof CallError.fields> {
  const { code, text, data } = said(err);
  return { id, code: clip(code, MAX_CODE) || 'failed', text: clip(text, MAX_TEXT), data: dataOf(data) };
}

function said(err: unknown): { code: string; text: string; data?: unknown } {
  if (err instanceof RemoteError) return { code: err.code, text: err.message, data: err.data };
  if (err instanceof PeerserverError) return { code: err.code, text: err.message };
  if (!(err instanceof Error)) return { code: 'failed', text: 'internal' };
  const code = err.name === 'AbortError' ? 'cancelled' : err.name === 'TimeoutError' ? 'timeout' : 'failed';
  return { code, text: err.message };
}

function dataOf(data: unknown): ReturnType<typeof partsOf>[0] {
  try {
    return partsOf(data, MAX_PART)[0];
  } catch {
    return undefined;
  }
}

/** Reads what the other side answers, which may not keep to the limits. */
export function remoteError(said: Of<typeof CallError>): RemoteError {
  let data: unknown;
  try {
    data = new Parts().add(said.data, false)?.value;
  } catch {
    // Not the caller's to mend.
  }
  return new RemoteError(clip(said.code, MAX_CODE) || 'failed', clip(said.text, MAX_TEXT), data);
}

/** Cuts a text to as many bytes, between two characters. */
function clip(text: string, most: number): string {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length <= most) return text;
  let end = most;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return new TextDecoder().decode(bytes.subarray(0, end));
}
