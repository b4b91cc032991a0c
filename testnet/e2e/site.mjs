// The pages that browsers open, bundled anew for every run.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Milliseconds that a page may take to load. */
export const LOADED_WITHIN = 30_000;
/** How much of what a page says is kept for when it fails. */
export const CONSOLE_LINES = 30;

const PAGES = ['trystero', 'webtorrent', 'p2pt', 'sdk', 'ways', 'calls', 'blank', 'opening', 'peerjs', 'ywebrtc', 'wsrelay', 'rxdb', 'matchbox'];

/** Serves the pages, or some of them, on a free port of this machine. */
export async function servePages(pages = PAGES) {
  const scripts = await bundlePages(pages);
  const server = createServer((request, response) => {
    const name = request.url.slice(1).replace(/\.(html|js)$/, '');
    if (!scripts.has(name)) {
      response.writeHead(404).end();
    } else if (request.url.endsWith('.js')) {
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(scripts.get(name));
    } else {
      response.writeHead(200, { 'content-type': 'text/html' })
        .end(`<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>${name}</title><script src="/${name}.js"></script>`);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

// Built in memory at every start: a bundle left over from an earlier run would prove nothing about this one.
async function bundlePages(pages) {
  const result = await build({
    entryPoints: pages.map((name) => fileURLToPath(new URL(`pages/${name}.mjs`, import.meta.url))),
    bundle: true,
    format: 'iife',
    platform: 'browser',
    target: ['chrome120', 'firefox128'],
    outdir: 'out',
    write: false,
    logLevel: 'error',
  });
  return new Map(result.outputFiles.map((file, i) => [pages[i], file.text]));
}
