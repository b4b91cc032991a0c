// The package as npm has it: its types compile in a strict project of somebody else, and a bundler takes it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { build } from 'esbuild';

declare const PACKAGE: string;

const APP = `
import { type Diagnosis, join, type Peer, PeerserverError, RemoteError, type Room, type TroubleCode, type Way } from '@peerservers/peerserver';

const room: Room = await join('my-app', { nodes: ['wss://node.example.org'], name: 'Ada', noRelay: true, iceTransportPolicy: 'relay' });
room.on('peer', (peer: Peer) => void peer.send('hello'));
room.on('leave', (peer, lost: boolean) => console.log(peer.id, lost));
room.on('path', ({ path, way }) => path === 'nodes' && way?.noTurn === 'turn_failed');
const way: Way = { path: 'turn', transport: 'tls', server: 'own', noDirect: 'no_reply' };
const found: Diagnosis = await room.diagnose({ signal: AbortSignal.timeout(5000) });
const codes: TroubleCode[] = found.troubles.map(({ code }) => code);
console.log(way, codes);
room.on('broadcast', (sender, data: Uint8Array) => console.log(sender.name, data.length));
room.handle('add', ([a, b]: any, { progress }) => (void progress(1), a + b));
const answers = await room.call('*', 'add', [1, 2], { timeout: 1000 });
for (const [peer, { value, error }] of answers) console.log(peer.links, value, error instanceof RemoteError);
for await (const value of (room.peers[0] as Peer).stream('count')) console.log(value);
console.log(room.members, PeerserverError);
// @ts-expect-error: what peers tell each other is no part of it
room.peers[0]?.sendControl({});
await room.leave();
`;

test('its types, in a strict project, and a bundle of it', { timeout: 120_000 }, async () => {
  const project = mkdtempSync(join(tmpdir(), 'peerserver-package-'));
  const modules = join(PACKAGE, 'node_modules');
  try {
    const types = spawnSync(process.execPath, [join(PACKAGE, 'build.mjs'), '--types-to', join(project, 'package', 'dist', 'types')], { encoding: 'utf8' });
    assert.equal(types.status, 0, types.stdout + types.stderr);
    for (const name of ['package.json', 'dist/sdk.js', 'dist/sdk-plain.js']) symlinkSync(join(PACKAGE, name), join(project, 'package', name));
    mkdirSync(join(project, 'node_modules', '@peerservers'), { recursive: true });
    symlinkSync(join(project, 'package'), join(project, 'node_modules', '@peerservers', 'peerserver'));
    writeFileSync(join(project, 'app.mts'), APP);
    const options = ['--noEmit', '--strict', '--target', 'ES2023', '--module', 'NodeNext', '--lib', 'ES2023,DOM,ESNext.Disposable', '--types', '', '--preserveSymlinks'];
    const { status, stdout } = spawnSync(join(modules, '.bin', 'tsc'), [...options, 'app.mts'], { cwd: project, encoding: 'utf8' });
    assert.equal(status, 0, stdout);
    const { outputFiles } = await build({
      entryPoints: [join(project, 'app.mts')], bundle: true, splitting: true, format: 'esm', outdir: 'out', write: false, preserveSymlinks: true, logLevel: 'silent',
    });
    assert.equal(outputFiles.length, 2); // the part that is loaded only where it is needed is still apart
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
});
