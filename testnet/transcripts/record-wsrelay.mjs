// Records node/door/wsrelay/testdata/reference.json from the server in Trystero's repository, which npm does not have:
//
//   scripts/install.sh npm && node testnet/transcripts/record-wsrelay.mjs CHECKOUT

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { record, require } from './recorder.mjs';

const PORT = 20_419;
const home = join(process.argv[2], 'packages/ws-relay');
const { version } = JSON.parse(readFileSync(join(home, 'package.json')));

const open = (name) => [name, 'open', '/'];
const subscribe = (name, topic) => [name, 'send', JSON.stringify({ type: 'subscribe', topic })];
const unsubscribe = (name, topic) => [name, 'send', JSON.stringify({ type: 'unsubscribe', topic })];
const publish = (name, topic, payload) => [name, 'send', JSON.stringify({ type: 'publish', topic, payload })];
const announce = (name) => publish(name, 'room', JSON.stringify({ peerId: name }));
const enters = (name) => [open(name), subscribe(name, `self of ${name}`), subscribe(name, 'room')];
const says = (name, ...texts) => texts.map((text) => [name, 'send', text]);

const scenes = [
  { name: 'two meet', steps: [
    ...enters('a'), announce('a'), ...enters('b'), announce('b'),
    publish('a', 'self of b', JSON.stringify({ peerId: 'a', offer: 'AES-GCM$é <&>+/=' })),
    publish('b', 'self of a', JSON.stringify({ peerId: 'b', answer: 'x' })),
    publish('b', 'self of a', { peerId: 'b', candidate: 'an object' }),
    ['a', 'close'], publish('b', 'self of a', 'gone'), announce('b'),
  ] },
  { name: 'the same again', steps: [...enters('a'), ...enters('b'), subscribe('a', 'room'), announce('a'), announce('a')] },
  { name: 'nobody is there', steps: [...enters('a'), publish('a', 'nobody', 1), subscribe('a', 'nobody'), publish('a', 'nobody', 2)] },
  { name: 'unsubscribe', steps: [
    ...enters('a'), ...enters('b'), unsubscribe('b', 'room'), unsubscribe('b', 'never subscribed'), announce('b'), subscribe('b', 'room'), announce('b'),
  ] },
  { name: 'binary', steps: [open('a'), ['a', 'binary', '{"type":"subscribe","topic":"room"}'], ['a', 'binary', '{"type":"publish","topic":"room","payload":"é"}']] },
  { name: 'form', steps: [...enters('a'), ...says(
    'a',
    '{"type":"publish","topic":"room","payload":null}', '{"type":"publish","topic":"room","payload":7.50}',
    '{"type":"publish","topic":"room","payload":[1, {"a" : false}]}',
    ' { "payload" : "\\u00e9é" , "more" : 1 , "topic" : "\\u0072oom" , "type" : "publish" } ',
    '{"type":"publish","topic":"self of a","topic":"room","payload":1,"payload":"the last of two"}',
    '{"type":"subscribe","topic":""}', '{"type":"publish","topic":"","payload":"the empty topic is one"}',
  )] },
  { name: 'nothing comes of it', steps: [...enters('a'), ...enters('b'), ...says(
    'a',
    '{"type":"publish","topic":"room"}', '{"type":"publish","payload":"no topic"}', '{"type":"publish","topic":7,"payload":"a number"}',
    '{"type":"subscribe"}', '{"type":"subscribe","topic":["room"]}', '{"type":"unheard of","topic":"room","payload":1}',
    '{"topic":"room","payload":1}', 'not JSON', '', '{}', '[]', 'null', '7',
  ), announce('a')] },
];

const folder = mkdtempSync(join(tmpdir(), 'ws-relay-'));
try {
  const outfile = join(folder, 'server.mjs');
  require('esbuild').buildSync({
    entryPoints: [join(home, 'src/server.ts')], outfile, bundle: true, platform: 'node', format: 'esm', tsconfigRaw: '{}',
    alias: { ws: fileURLToPath(new URL('../e2e/node_modules/ws/wrapper.mjs', import.meta.url)) },
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  const { createWsRelayServer } = await import(pathToFileURL(outfile));
  const relay = createWsRelayServer({ port: PORT, host: '127.0.0.1' });
  await relay.ready;
  await record({
    url: `ws://127.0.0.1:${PORT}`, about: `src/server.ts of @trystero-p2p/ws-relay ${version}`, scenes, idOf: () => undefined,
    to: fileURLToPath(new URL('../../node/door/wsrelay/testdata/reference.json', import.meta.url)),
  });
  await relay.close();
} finally {
  rmSync(folder, { recursive: true });
}
