// Builds dist/sdk.js, which nodes serve and which is committed: `node build.mjs`. With --check it only compares.

import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const MOST = 45_000; // bytes, minified and compressed

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, 'dist', 'sdk.js');
const result = await build({
  entryPoints: [join(here, 'src', 'index.ts')], bundle: true, minify: true, format: 'esm', target: 'es2022', legalComments: 'none', write: false,
});
const bytes = Buffer.from(result.outputFiles[0].contents);
const size = gzipSync(bytes, { level: 9 }).length;
console.log(`sdk.js: ${bytes.length} bytes, ${size} compressed, at most ${MOST}`);
if (size > MOST) throw new Error('the SDK is too large');
if (process.argv.includes('--check')) {
  if (!bytes.equals(readFileSync(out))) throw new Error('dist/sdk.js is not what src makes; run: npm run build');
} else {
  writeFileSync(out, bytes);
}
