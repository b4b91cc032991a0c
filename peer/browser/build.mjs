// Builds what nodes serve and what is committed, dist/sdk.js and dist/sdk-plain.js: `node build.mjs`. With --check it only
// compares. With --types it writes dist/types too, which is for the package; with --types-to DIR it writes only those, there.

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const MOST = 45_000; // bytes of each, minified and compressed

const here = dirname(fileURLToPath(import.meta.url));

/** A module that is loaded only where it is needed stays a file beside the others. */
const apart = {
  name: 'apart',
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/crypto-plain\.ts$/ }, () => ({ path: './sdk-plain.js', external: true })),
};

async function make(entry, name, plugins = []) {
  const result = await build({
    entryPoints: [join(here, 'src', entry)], bundle: true, minify: true, format: 'esm', target: 'es2022', legalComments: 'eof', write: false, plugins,
  });
  const out = join(here, 'dist', name);
  const bytes = Buffer.from(result.outputFiles[0].contents);
  const size = gzipSync(bytes, { level: 9 }).length;
  console.log(`${name}: ${bytes.length} bytes, ${size} compressed, at most ${MOST}`);
  if (size > MOST) throw new Error(`${name} is too large`);
  if (!process.argv.includes('--check')) writeFileSync(out, bytes);
  else if (!bytes.equals(readFileSync(out))) throw new Error(`dist/${name} is not what src makes; run: npm run build`);
}

/** The types of what index.ts exports. */
function declare(outDir) {
  const args = ['--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--stripInternal', '--outDir', outDir, '-p', 'tsconfig.types.json'];
  const { status } = spawnSync(join(here, 'node_modules', '.bin', 'tsc'), args, { cwd: here, stdio: 'inherit' });
  if (status !== 0) throw new Error('tsc fails');
}

const [option, to = 'dist/types'] = process.argv.slice(2);
if (option === '--types-to') {
  declare(to);
} else {
  await make('index.ts', 'sdk.js', [apart]);
  await make('crypto-plain.ts', 'sdk-plain.js');
  if (option === '--types') declare(to);
}
