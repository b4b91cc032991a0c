// Waiting: every wait has a deadline and says what it waited for.

/**
 * Resolves as `promise` does, or rejects after `ms` with what was being waited for.
 * `detail` is asked only on failure, for what is known by then.
 */
export async function within(ms, what, promise, detail = () => '') {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => {
      const more = detail();
      reject(new Error(`${what}: not within ${ms / 1000} s${more ? `; ${more}` : ''}`));
    }, ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves to true if `promise` is still pending after `ms`, to false if it settled. */
export async function staysPending(ms, promise) {
  let timer;
  const quiet = new Promise((resolve) => {
    timer = setTimeout(() => resolve(true), ms);
  });
  try {
    return await Promise.race([quiet, promise.then(() => false, () => false)]);
  } finally {
    clearTimeout(timer);
  }
}

/** The pause that a scene asks for ("the second comes 3 s late"); never used to wait for an effect. */
export function apart(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/** Milliseconds as they are printed in the results. */
export function shown(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
