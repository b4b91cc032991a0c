// Chromium, with one context for each peer.

import { chromium } from 'playwright-core';
import { Signals } from './signals.mjs';
import { CONSOLE_LINES, LOADED_WITHIN, servePages } from './site.mjs';
import { within } from './wait.mjs';

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

/** Cameras and microphones that are not there, and that no page has to ask for. */
export const FAKE_DEVICES = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];

/** Starts one Chromium and the server of its `pages`, all if none are named, with more `flags` if need be. Close it in `after`. */
export async function openBrowser({ flags = [], pages } = {}) {
  if (!process.env.E2E_CHROMIUM) throw new Error('E2E_CHROMIUM names no browser; start the suites with run.mjs');
  const site = await servePages(pages);
  let browser;
  try {
    browser = await chromium.launch({
      executablePath: process.env.E2E_CHROMIUM,
      headless: true,
      args: [...FLAGS, ...flags],
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

/** Runs in the page, before its scripts: what becomes of its connections is said in the console, and so in a tab's detail. */
function sayStates() {
  let connections = 0;
  const Usual = globalThis.RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Usual {
    constructor(...args) {
      super(...args);
      connections += 1;
      const name = `connection ${connections}`;
      this.addEventListener('iceconnectionstatechange', () => console.debug(`${Math.round(performance.now())} ms ${name}: ${this.iceConnectionState}`));
    }
  };
}

async function openTab(browser, site, name) {
  const context = await browser.newContext();
  await context.addInitScript(sayStates);
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
