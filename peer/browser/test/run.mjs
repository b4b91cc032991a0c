// Bundles each test and runs it in Node: `node test/run.mjs`. Imports of packages stay imports.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'peerserver-sdk-'));
try {
  const tests = readdirSync(here).filter((name) => name.endsWith('.test.ts')).sort();
  symlinkSync(join(here, '..', 'node_modules'), join(out, 'node_modules'));
  await build({
    entryPoints: tests.map((name) => join(here, name)), outdir: out, outExtension: { '.js': '.mjs' }, bundle: true,
    packages: 'external', platform: 'node', target: 'node20', format: 'esm', sourcemap: 'inline', logLevel: 'warning',
    define: { VECTORS: JSON.stringify(join(here, '..', '..', '..', 'protocol', 'vectors')), PACKAGE: JSON.stringify(join(here, '..')) },
  });
  const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--no-warnings', '--test', ...tests.map((name) => join(out, name.replace(/\.ts$/, '.mjs')))], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
