// People who open a node's own page, and what they do there: only what a person sees and can press is used.

import { isDeepStrictEqual } from 'node:util';
import { chromium } from 'playwright-core';
import { Signals } from './signals.mjs';
import { within } from './wait.mjs';

const LOADED_WITHIN = 30_000;
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
];

/** One Chromium. Close it in `after`. */
export async function openVisitors() {
  const browser = await chromium.launch({
    executablePath: process.env.E2E_CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: FLAGS,
  });
  return {
    /** A visitor with a browser profile of their own, on the page at `url`. */
    visit: async (url) => {
      const context = await browser.newContext();
      await context.addInitScript(keepConnections);
      const visitor = new Visitor(context, await context.newPage());
      await within(LOADED_WITHIN, `${url} loads`, visitor.page.goto(url));
      return visitor;
    },
    close: () => browser.close(),
  };
}

/** Runs in the page, before its scripts: cutConnections ends all direct connections as a broken network would. */
function keepConnections() {
  const all = new Set();
  const Usual = globalThis.RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Usual {
    constructor(...args) {
      super(...args);
      all.add(this);
    }
  };
  globalThis.cutConnections = () => {
    for (const pc of all) pc.close();
    all.clear();
  };
}

/** The page of the node whose WebSocket URL this is. */
export function pageOf(ws) {
  return `${ws.replace(/^ws/, 'http')}/`;
}

class Visitor {
  signals = new Signals();
  /** What the browser complained of: errors of scripts, and what the page's policy stopped. */
  complaints = [];

  constructor(context, page) {
    this.context = context;
    this.page = page;
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') this.complaints.push(message.text());
    });
    page.on('pageerror', (err) => this.complaints.push(err.message));
    page.on('websocket', (socket) => this.signals.watch(socket));
  }

  async enter(room, name) {
    await this.page.fill('#room', room);
    await this.enterAs(name);
  }

  /** Enters the room that the link named. */
  async enterAs(name) {
    await this.page.fill('#name', name);
    await this.page.click('role=button[name="Enter the room"]');
    this.name = name;
  }

  async say(text) {
    await this.page.fill('[aria-label=Message]', text);
    await this.page.press('[aria-label=Message]', 'Enter');
  }

  /** Resolves when the page shows exactly these people, connected directly, besides oneself. */
  async sees(ms, ...names) {
    const wanted = [...names].sort();
    await this.#until(ms, `${this.name} sees ${wanted.join(' and ') || 'nobody'}`, async () => {
      const people = (await this.people()).filter((p) => !p.note.startsWith('you'));
      return people.every((p) => p.note.startsWith('direct')) && isDeepStrictEqual(people.map((p) => p.name).sort(), wanted);
    });
  }

  /** Resolves when the page shows the message. */
  hears(ms, from, text) {
    return this.#until(ms, `${this.name} hears "${text}" of ${from}`, async () => (await this.heard()).includes(`${from}: ${text}`));
  }

  async people() {
    return this.page.$$eval('[aria-label="Who is here"] > li', (all) => all.map((li) => ({
      name: li.querySelector('.name').textContent,
      note: li.querySelector('.note').textContent,
    })));
  }

  /** All messages, as "name: text". */
  async heard() {
    return this.page.$$eval('[role=log] .message', (all) => all.map((m) => `${m.querySelector('.name').textContent}: ${m.querySelector('.text')?.textContent}`));
  }

  text(selector) {
    return this.page.textContent(selector);
  }

  detail() {
    return `${this.name}: ${this.signals.summary()}${this.complaints.length ? `; the browser complained: ${this.complaints.join(' | ')}` : ''}`;
  }

  async close() {
    await this.context.close();
  }

  async #shown() {
    const people = (await this.people()).map((p) => `${p.name} (${p.note})`);
    return `"${await this.text('#count')}", "${await this.text('#hint')}", ${people.join(', ')}`;
  }

  async #until(ms, what, done) {
    let over = false;
    const poll = async () => {
      while (!over && !(await done())) await new Promise((next) => setTimeout(next, 50));
    };
    try {
      await within(ms, what, poll(), () => this.detail());
    } catch (err) {
      throw new Error(`${err.message}; the page shows ${await this.#shown()}`);
    } finally {
      over = true;
    }
  }
}
