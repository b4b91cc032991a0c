// Chromium, with one context for each peer, and the pages it opens, bundled anew for every run.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { Signals } from './signals.mjs';
import { within } from './wait.mjs';

const LOADED_WITHIN = 30_000;
const CONSOLE_LINES = 30;
const PAGES = ['trystero', 'webtorrent', 'p2pt', 'sdk', 'blank'];

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  // Tabs behind the front one would otherwise have their timers slowed.
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
];

/** Starts one Chromium and the server of its pages. Close it in `after`. */
export async function openBrowser() {
  if (!process.env.E2E_CHROMIUM) throw new Error('E2E_CHROMIUM names no browser; start the suites with run.mjs');
  const site = await servePages();
  let browser;
  try {
    browser = await chromium.launch({
      executablePath: process.env.E2E_CHROMIUM,
      headless: true,
      args: FLAGS,
    });
  } catch (err) {
    await site.close();
    throw err;
  }
  return {
    /** A tab in a context of its own, so that no two peers share storage or a BroadcastChannel. */
    open: (page) => openTab(browser, site, page),
    /** A second tab in the context of `tab`. */
    openBeside: (tab, page) => loadPage(tab.context, site, page),
    close: async () => {
      await browser.close();
      await site.close();
    },
  };
}

async function openTab(browser, site, name) {
  const context = await browser.newContext();
  return loadPage(context, site, name);
}

async function loadPage(context, site, name) {
  const page = await context.newPage();
  const signals = new Signals();
  const said = [];
  const note = (text) => {
    if (said.length < CONSOLE_LINES) said.push(text);
  };
  page.on('console', (message) => note(message.text()));
  page.on('pageerror', (err) => note(`uncaught: ${err.message}`));
  page.on('websocket', (socket) => signals.watch(socket));
  await within(LOADED_WITHIN, `page ${name} loads`, page.goto(`${site.origin}/${name}.html`));
  return {
    context,
    signals,
    /** Runs `peer[method](argument)` in the page; see pages/ for what each page offers. */
    call: (method, argument) => page.evaluate(([m, a]) => globalThis.peer[m](a), [method, argument]),
    /** What to print when this tab did not do what was expected of it. */
    detail: () => `${signals.summary()}${said.length ? `; page said: ${said.join(' | ')}` : ''}`,
    close: () => context.close(),
  };
}

async function servePages() {
  const scripts = await bundlePages();
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
async function bundlePages() {
  const result = await build({
    entryPoints: PAGES.map((name) => fileURLToPath(new URL(`pages/${name}.mjs`, import.meta.url))),
    bundle: true,
    format: 'iife',
    platform: 'browser',
    target: 'chrome120',
    outdir: 'out',
    write: false,
    logLevel: 'error',
  });
  return new Map(result.outputFiles.map((file, i) => [PAGES[i], file.text]));
}
