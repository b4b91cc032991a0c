// The network that run.mjs has made, changed by what a scene wants: rules that drop packets, another address.

import { execFileSync } from 'node:child_process';

/** The browsers' address in this network namespace. */
export const ADDRESS = '10.99.0.1';

export const ip = (...args) => execFileSync('ip', args);

let tables = 0;

/** Throws away whatever comes in and matches one of `rules` (of nftables), as a network does: nobody is told. Answers what lets it pass again, once. */
export function drop(...rules) {
  const table = `drop${++tables}`;
  nft([`add table ip ${table}`, `add chain ip ${table} in { type filter hook input priority 0; }`, ...rules.map((rule) => `add rule ip ${table} in ${rule} drop`)]);
  let drops = true;
  return () => {
    if (drops) nft([`delete table ip ${table}`]);
    drops = false;
  };
}

function nft(commands) {
  execFileSync('nft', ['-f', '-'], { input: commands.join('\n') });
}
