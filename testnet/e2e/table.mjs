// A reporter of node --test that says nothing: it keeps what every scene measured as a Markdown page, in the file that
// E2E_TABLE names. `make matrix` makes docs/matrix.md with it. The page is written after each scene, because the runner ends
// without waiting for its reporters.

import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';

const TITLES = {
  'anacrolix': 'anacrolix/torrent (Go) and webtorrent (Chromium)',
  'content': 'the file that torrents are of',
  'find': 'the nodes find each other only after their clients have announced',
  'islands': 'nodes that are not federated: nobody may meet',
  'loss': 'a node is killed',
  'matchbox': 'Matchbox, a client of its protocol',
  'p2pt': 'p2pt',
  'page': 'the page of a node',
  'peerjs': 'PeerJS',
  'private': 'private nodes: a token in the URL, as each library takes one',
  'rxdb': 'RxDB, replication by WebRTC',
  'sdk': 'the SDK for browsers: Chromium, Firefox and Go',
  'sdk-hostile': 'the SDK for browsers and a node that is hostile, or killed',
  'sdk-turn': 'the SDK for browsers: STUN and TURN servers of nodes',
  'sdk-ways': 'the SDK for browsers: ways between peers',
  'tracker-client': 'bittorrent-tracker (Node.js): its own server, and two of our nodes',
  'trystero': 'Trystero, torrent strategy',
  'webtorrent': 'webtorrent',
  'wsrelay': 'Trystero over a WebSocket relay',
  'ywebrtc': 'y-webrtc',
};

export default async function* table(events) {
  const suites = new Map();
  const open = []; // names by nesting
  let last;
  for await (const { type, data } of events) {
    if (type === 'test:start') {
      open.length = data.nesting;
      open.push(data.name);
    } else if ((type === 'test:pass' || type === 'test:fail') && data.details?.type !== 'suite' && !data.skip && data.file) {
      last = { name: [...open.slice(0, data.nesting), data.name].join(': '), ok: type === 'test:pass', said: [] };
      const suite = basename(data.file, '.test.mjs');
      if (!suites.has(suite)) suites.set(suite, []);
      suites.get(suite).push(last);
    } else if (type === 'test:diagnostic' && last && data.file) {
      last.said.push(data.message);
    } else {
      continue;
    }
    writeFileSync(process.env.E2E_TABLE, page(suites));
  }
}

function page(suites) {
  const scenes = [...suites.values()].flat();
  const failed = scenes.filter((scene) => !scene.ok).length;
  const lines = [
    '# The matrix', '',
    `Every scene with every client library, in both orders and at every delay, as \`make matrix\` played them on ${new Date().toISOString().slice(0, 10)}:`,
    `${scenes.length} scenes, ${failed} failed. Clients are as published on npm and the Go module proxy; nodes find each other through a private`,
    'DHT, all on one machine. Times are what was measured, not what a scene passes by.',
  ];
  for (const [suite, rows] of [...suites].sort(([a], [b]) => (a < b ? -1 : 1))) {
    lines.push('', `## ${TITLES[suite] ?? suite}`, '', '| scene | | measured |', '|---|---|---|');
    for (const { name, ok, said } of rows) lines.push(`| ${cell(name)} | ${ok ? 'ok' : '**failed**'} | ${said.map(cell).join('<br>')} |`);
  }
  return `${lines.join('\n')}\n`;
}

function cell(text) {
  return text.replace(/\s+/g, ' ').replaceAll('|', '\\|');
}
