// The network that run.mjs has made, changed by what a scene wants: rules that drop packets, another address.

import { execFileSync } from 'node:child_process';

/** The browsers' address in this network namespace. */
export const ADDRESS = '10.99.0.1';

export const ip = (...args) => execFileSync('ip', args);

/** Has local addresses looked up after the rules that drop packets, which have a `pref` below 100. Answers what undoes it. */
export function localLater() {
  ip('rule', 'add', 'pref', '100', 'lookup', 'local');
  ip('rule', 'del', 'pref', '0');
  return () => {
    ip('rule', 'add', 'pref', '0', 'lookup', 'local');
    ip('rule', 'del', 'pref', '100');
  };
}
