// A reporter of node --test: what every scene measured, as a Markdown page. `make matrix` keeps it as docs/matrix.md.

import { basename } from 'node:path';

const TITLES = {
  'anacrolix': 'anacrolix/torrent (Go) and webtorrent (Chromium)',
  'content': 'the file that torrents are of',
  'find': 'the nodes find each other only after their clients have announced',
  'islands': 'nodes that are not federated: nobody may meet',
  'loss': 'a node is killed',
  'p2pt': 'p2pt',
  'page': 'the page of a node',
  'sdk': 'the SDK for browsers',
  'tracker-client': 'bittorrent-tracker (Node.js): its own server, and two of our nodes',
  'trystero': 'Trystero, torrent strategy',
  'webtorrent': 'webtorrent',
};

export default async function* table(events) {
  const suites = new Map();
  const open = []; // names by nesting
  let last;
  let failed = 0;
  for await (const { type, data } of events) {
    if (type === 'test:start') {
      open.length = data.nesting;
      open.push(data.name);
    } else if (type === 'test:pass' || type === 'test:fail') {
      if (data.details?.type === 'suite' || data.skip || !data.file) continue;
      open.length = data.nesting;
      last = { name: [...open.slice(0, data.nesting), data.name].join(': '), ok: type === 'test:pass', said: [] };
      failed += last.ok ? 0 : 1;
      const suite = basename(data.file, '.test.mjs');
      if (!suites.has(suite)) suites.set(suite, []);
      suites.get(suite).push(last);
    } else if (type === 'test:diagnostic' && last && data.file) {
      last.said.push(data.message);
    }
  }
  const scenes = [...suites.values()].flat().length;
  yield `# The matrix\n\nEvery scene with every client library, in both orders and at every delay, as \`make matrix\` played them on ${new Date().toISOString().slice(0, 10)}:\n`;
  yield `${scenes} scenes, ${failed} failed. Clients are as published on npm and the Go module proxy; nodes are processes of their own that find\neach other through a private DHT, all on one machine. Times are measured, and are not what a scene passes by.\n`;
  for (const [suite, rows] of [...suites].sort(([a], [b]) => (a < b ? -1 : 1))) {
    yield `\n## ${TITLES[suite] ?? suite}\n\n| scene | | measured |\n|---|---|---|\n`;
    for (const { name, ok, said } of rows) {
      yield `| ${cell(name)} | ${ok ? 'ok' : '**failed**'} | ${said.map(cell).join('<br>')} |\n`;
    }
  }
}

function cell(text) {
  return text.replace(/\s+/g, ' ').replaceAll('|', '\\|');
}
