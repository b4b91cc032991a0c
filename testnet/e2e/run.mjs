// Runs the suites: `node run.mjs [FILE.test.mjs...] [-- OPTIONS OF node --test...]`, all of them by default.
//
// They run in a network and a process namespace of their own. Nothing they send can leave the machine, the browser finds a
// default route and so gathers candidates as on a real network, and whatever happens, even to this process, the kernel ends
// every process in there and takes the network away with the last of them.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');

// Both ends of the pair stay in here; the second only gives the first a link that is up. The gateway need not exist.
const NETWORK = [
  'ip link set lo up',
  'ip link add v0 type veth peer name v1',
  'ip addr add 10.99.0.1/24 dev v0',
  'ip link set v0 up',
  'ip link set v1 up',
  'ip route add default via 10.99.0.2',
].join(' && ');

const temp = mkdtempSync(join(tmpdir(), 'peerserver-e2e-'));
const running = new Set();
process.on('exit', () => rmSync(temp, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    for (const child of running) child.kill('SIGKILL');
    process.exitCode = 1;
  });
}

const [files, options] = split(process.argv.slice(2));
const env = { ...process.env, TMPDIR: temp };
process.exitCode = await main();

async function main() {
  env.E2E_CHROMIUM ??= inPath('chromium', 'chromium-browser', 'google-chrome');
  if (!env.E2E_CHROMIUM) throw new Error('there is no Chromium in PATH; E2E_CHROMIUM=/path/to/it names one');
  env.E2E_FIREFOX ??= inPath('firefox-esr', 'firefox'); // without one, its scenes are skipped
  if (!env.E2E_BIN && env.E2E_TARGET !== 'reference') {
    env.E2E_BIN = join(temp, 'peerserver');
    const code = await run('go', ['build', '-o', env.E2E_BIN, './cmd/peerserver'], { cwd: root });
    if (code !== 0) return code;
  }
  if (!env.E2E_TORRENT) {
    env.E2E_TORRENT = join(temp, 'torrent');
    // With cgo its uTP, which it does not use here, would need a C++ compiler.
    const code = await run('go', ['build', '-o', env.E2E_TORRENT, '.'], { cwd: join(root, 'testnet', 'torrent'), more: { CGO_ENABLED: '0' } });
    if (code !== 0) return code;
  }
  const suites = files.length ? files : readdirSync(here).filter((name) => name.endsWith('.test.mjs')).sort();
  // One suite at a time: each has a browser and nodes of its own, and measures.
  const test = [process.execPath, '--test', '--test-concurrency=1', '--test-force-exit', ...options, ...suites];
  const own = process.getuid() === 0 ? [] : ['--user', '--map-root-user'];
  // The namespaces end with unshare, and unshare with this process, however that ends.
  return run('setpriv', ['--pdeathsig', 'SIGKILL', 'unshare', ...own, '--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', `${NETWORK} && exec "$@"`, 'sh', ...test], { cwd: here });
}

/** The first of `names` that is a program here; '' if there is none. */
function inPath(...names) {
  return names.flatMap((name) => env.PATH.split(delimiter).map((dir) => join(dir, name))).find((path) => existsSync(path)) ?? '';
}

function run(command, args, { cwd, more = {} }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env: { ...env, ...more }, stdio: ['ignore', 'inherit', 'inherit'] });
    running.add(child);
    child.once('error', (err) => {
      console.error(`${command}: ${err.message}`);
      resolve(1);
    });
    child.once('exit', (code) => {
      running.delete(child);
      resolve(code ?? 1);
    });
  });
}

function split(args) {
  const at = args.indexOf('--');
  return at < 0 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
}
