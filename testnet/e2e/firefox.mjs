// Firefox, driven by WebDriver BiDi, with one context for each peer.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';
import { CONSOLE_LINES, LOADED_WITHIN, servePages } from './site.mjs';
import { within } from './wait.mjs';

const STARTED_WITHIN = 60_000;

const PREFERENCES = {
  // Tabs behind the front one would otherwise have their timers slowed.
  'dom.min_background_timeout_value': 4,
  'dom.timeout.enable_budget_timer_throttling': false,
};

/** Starts one Firefox and the server of its pages. Close it in `after`. */
export async function openFirefox() {
  if (!process.env.E2E_FIREFOX) throw new Error('E2E_FIREFOX names no browser; start the suites with run.mjs');
  const site = await servePages();
  // Its profile, and what it would keep in the home folder.
  const home = mkdtempSync(join(tmpdir(), 'firefox-'));
  const clean = async () => {
    rmSync(home, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    await site.close();
  };
  let browser;
  try {
    browser = await puppeteer.launch({
      browser: 'firefox',
      executablePath: process.env.E2E_FIREFOX,
      headless: true,
      timeout: STARTED_WITHIN,
      protocolTimeout: 0, // a call may wait for as long as its caller does
      env: { ...process.env, HOME: home, TMPDIR: home, XDG_CACHE_HOME: home, XDG_CONFIG_HOME: home, XDG_RUNTIME_DIR: home },
      extraPrefsFirefox: PREFERENCES,
    });
  } catch (err) {
    await clean();
    throw err;
  }
  return {
    /** A tab in a context of its own, so that no two peers share storage or a BroadcastChannel. */
    open: async (page) => loadPage(await browser.createBrowserContext(), site, page),
    close: async () => {
      await browser.close();
      await clean();
    },
  };
}

async function loadPage(context, site, name) {
  const page = await context.newPage();
  const said = [];
  const note = (text) => {
    if (said.length < CONSOLE_LINES) said.push(text);
  };
  page.on('console', (message) => note(message.text()));
  page.on('pageerror', (err) => note(`uncaught: ${err.message}`));
  await within(LOADED_WITHIN, `page ${name} loads`, page.goto(`${site.origin}/${name}.html`));
  return {
    /** Runs `peer[method](argument)` in the page; see pages/ for what each page offers. */
    call: (method, argument) => page.evaluate((m, a) => globalThis.peer[m](a), method, argument),
    /** What to print when this tab did not do what was expected of it. */
    detail: () => `Firefox${said.length ? `; page said: ${said.join(' | ')}` : ''}`,
    close: () => context.close(),
  };
}
