// The node's own page: what it shows, and the room whose people can sit on different nodes.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { Program } from './program.mjs';
import { APART_FOR, MEET_WITHIN, newRoom, report } from './scenes.mjs';
import { startNodes } from './servers.mjs';
import { pageOf, openVisitors } from './visitor.mjs';
import { staysPending, within } from './wait.mjs';

const skip = process.env.E2E_TARGET === 'reference' ? 'a reference server has no such page' : false;
const SHOWN_WITHIN = 10_000;
const HEALTHY_WITHIN = 60_000; // a record is in the DHT some seconds after the start
const GONE_WITHIN = 30_000;
const FILE_WITHIN = 60_000;

describe('the page', { skip }, () => {
  let nodes;
  let visitors;

  before(async () => {
    nodes = await startNodes({ nodes: 3, processes: true });
    visitors = await openVisitors();
  });

  after(async () => {
    await visitors?.close();
    await nodes?.close();
  });

  /** Runs `scene` with visitors that are closed after it, none of whom may have had errors. */
  async function withVisitors(urls, scene, complaints = 0) {
    const all = await Promise.all(urls.map((url) => visitors.visit(url)));
    try {
      await scene(...all);
      for (const visitor of all) assert.ok(visitor.complaints.length <= complaints, visitor.detail());
    } finally {
      await Promise.all(all.map((visitor) => visitor.close()));
    }
  }

  test('shows the node, and how to point a library at it', async () => {
    const [a] = nodes.ws;
    await withVisitors([pageOf(a)], async (visitor) => {
      const stats = await (await fetch(`${pageOf(a)}stats.json`)).json();
      const shows = (selector, wanted) => within(SHOWN_WITHIN, `${selector} shows ${wanted}`,
        visitor.page.waitForFunction(([s, w]) => document.querySelector(s).textContent === w, [selector, wanted], { timeout: SHOWN_WITHIN }));
      await shows('[data-stat=node]', stats.node);
      await shows('[data-stat="relay.links"]', '2');
      await shows('#status', 'Node is up');
      assert.equal(await visitor.page.inputValue('[aria-label="URL of this node"]'), a);
      for (const library of ['SDK', 'webtorrent', 'Trystero', 'bittorrent-tracker', 'p2pt']) {
        await visitor.page.click(`role=tab[name="${library}"]`);
        const panel = visitor.page.locator('[role=tabpanel]:visible');
        assert.equal(await panel.count(), 1);
        const code = await panel.textContent();
        assert.ok(code.includes(`'${a}'`) && code.toLowerCase().includes(library.toLowerCase()), code);
      }
      const { hostname, port } = new URL(a);
      for (const [library, line] of [
        ['PeerJS', `{ host: '${hostname}', port: ${port}, secure: false, path: '/peerjs-server', key: 'my-app' }`],
        ['y-webrtc', `signaling: ['${a}/y-webrtc']`], ['RxDB', `signalingServerUrl: '${a}/rxdb'`],
      ]) {
        await visitor.page.click(`role=tab[name="${library}"]`);
        const code = await visitor.page.locator('[role=tabpanel]:visible').textContent();
        assert.ok(code.includes(line), code);
      }
      // Live: another's coming shows without a reload.
      const before = Number(await visitor.text('[data-stat="clients.clients"]'));
      await withVisitors([pageOf(a)], async (other) => {
        await other.enter(newRoom('live'), 'Ada');
        await shows('[data-stat="clients.clients"]', String(before + 1));
      });
    });
  });

  test('shows how the node is, and what it lacks', async () => {
    const [a] = nodes.ws;
    const health = (visitor) => visitor.page.$$eval('#health li', (all) => Object.fromEntries(all.map((e) => [e.children[0].textContent, [e.dataset.state, e.children[1].textContent]])));
    const becomes = (visitor, name, wanted) => within(HEALTHY_WITHIN, `${name} is ${wanted}`, visitor.page.waitForFunction(([n, w]) => {
      const item = [...document.querySelectorAll('#health li')].find((e) => e.children[0].textContent === n);
      return item && `${item.dataset.state}: ${item.children[1].textContent}` === w;
    }, [name, wanted], { timeout: HEALTHY_WITHIN }));
    await withVisitors([pageOf(a)], async (visitor) => {
      await becomes(visitor, 'DHT', 'good: knows 2 nodes of it, and is found there');
      await becomes(visitor, 'STUN and TURN', 'good: both');
      assert.deepEqual(Object.keys(await health(visitor)), ['DHT', 'TLS', 'STUN and TURN']); // on one machine there is no outside
      await visitor.page.route('**/stats.json', async (route) => {
        const answer = await route.fetch();
        const json = { ...await answer.json(), reach: { tcp: 'failed', stun: 'failed', portmap: 'none' }, ice: undefined };
        json.dht.nodes = 0;
        json.tls = { names: [], fault: 'the certificate has expired' };
        await route.fulfill({ response: answer, json });
      });
      await becomes(visitor, 'DHT', 'bad: no node of it answers');
      assert.deepEqual(await health(visitor), {
        DHT: ['bad', 'no node of it answers'], 'From outside': ['bad', 'other nodes do not reach it; it reaches them'],
        'Port mapping': ['bad', 'no router does it'], TLS: ['bad', 'the certificate has expired'],
        'STUN and TURN': ['bad', 'none; peers on different networks may not connect'],
      });
    });
  });

  test('says what the visitor’s network does to connections', async () => {
    const [a] = nodes.ws;
    await withVisitors([pageOf(a)], async (visitor) => {
      await visitor.enter(newRoom('mine'), 'Ada');
      await visitor.sees(SHOWN_WITHIN);
      await visitor.page.click('#mine summary');
      const said = visitor.page.locator('#mine p');
      await within(SHOWN_WITHIN, 'it is found out', visitor.page.waitForFunction(
        () => !['', 'Looking …'].includes(document.querySelector('#mine p').textContent), null, { timeout: SHOWN_WITHIN },
      ));
      assert.match(await said.textContent(), /direct connections work.*A node relays/);
      assert.equal(await visitor.page.locator('#mine li').count(), 0);
    });
  });

  test('a page on A and one on B chat with each other, by keyboard and by link', async (t) => {
    const [a, b] = nodes.ws;
    const room = newRoom('Über uns & “more”');
    await withVisitors([pageOf(a)], async (ada) => {
      const keys = ada.page.keyboard;
      const focused = () => ada.page.evaluate(() => document.activeElement.id);
      for (let i = 0; (await focused()) !== 'room'; i += 1) {
        assert.ok(i < 20, 'the field is not reached by Tab');
        await keys.press('Tab');
      }
      await keys.press('ControlOrMeta+A');
      await keys.type(room);
      await keys.press('Tab');
      await keys.press('ControlOrMeta+A');
      await keys.type('Ada');
      await keys.press('Tab');
      await keys.press('Enter');
      ada.name = 'Ada';
      await ada.sees(SHOWN_WITHIN);

      const link = new URL(await ada.page.inputValue('[aria-label="Link to this room"]'));
      await withVisitors([pageOf(b) + link.hash], async (bob) => {
        assert.equal(await bob.page.inputValue('#room'), room);
        const began = performance.now();
        await bob.enterAs('Bob');
        await Promise.all([ada.sees(MEET_WITHIN, 'Bob'), bob.sees(MEET_WITHIN, 'Ada')]);
        report(t, 'connected', performance.now() - began);
        // The one who joined by keyboard goes on typing: the field has the focus.
        await keys.type('hello from <b>A</b> & elsewhere');
        await keys.press('Enter');
        await bob.hears(SHOWN_WITHIN, 'Ada', 'hello from <b>A</b> & elsewhere');
        await bob.say('hello from B');
        await ada.hears(SHOWN_WITHIN, 'Bob', 'hello from B');
        assert.deepEqual(await ada.heard(), ['You: hello from <b>A</b> & elsewhere', 'Bob: hello from B']);
        assert.equal(await ada.text('.message.mine .note'), 'to Bob');
        // The node carried introductions that it cannot read, and no message.
        assert.ok(bob.signals.binary.length > 0, bob.detail());
        for (const secret of ['hello from', 'a=ice-ufrag', 'candidate']) {
          assert.ok(!bob.signals.binary.some((frame) => frame.includes(secret)), `${secret} was to be read in a frame`);
        }
      });
      await ada.sees(GONE_WITHIN);
      await keys.type('anybody?');
      await keys.press('Enter');
      assert.equal(await ada.text('.message.mine:last-child .note'), 'nobody is here to hear it');
    });
  });

  test('four people on three nodes hear each other, and see who leaves', async (t) => {
    const names = ['Ada', 'Bob', 'Cleo', 'Dan'];
    const urls = [0, 1, 2, 0].map((i) => pageOf(nodes.ws[i]));
    await withVisitors(urls, async (...people) => {
      const room = newRoom('four');
      const others = (i) => names.filter((_, j) => j !== i);
      const lines = names.length * (names.length - 1) / 2;
      const began = performance.now();
      await Promise.all(people.map((person, i) => person.enter(room, names[i])));
      await Promise.all(people.map((person, i) => person.sees(2 * MEET_WITHIN, ...others(i))));
      report(t, 'all connected with all', performance.now() - began);
      await Promise.all(people.map((person, i) => person.say(`I am ${names[i]}`)));
      await Promise.all(people.flatMap((person, i) => others(i).map((name) => person.hears(SHOWN_WITHIN, name, `I am ${name}`))));
      // The drawing shows who is connected to whom, others to each other too.
      await Promise.all(people.map((person) => within(SHOWN_WITHIN, `${person.name} sees all lines`,
        person.page.waitForFunction((n) => document.querySelectorAll('#graph .tie.direct').length === n, lines, { timeout: SHOWN_WITHIN }))));
      const notes = Object.fromEntries((await people[0].people()).map((p) => [p.name, p.note]));
      assert.match(notes.Ada, /^you · this node$/);
      assert.match(notes.Dan, /this node$/);
      assert.match(notes.Bob, /node [a-z0-9]{6}$/);
      assert.notEqual(notes.Bob.slice(-6), notes.Cleo.slice(-6));
      await people[0].say('again');
      await Promise.all(people.slice(1).map((person) => person.hears(SHOWN_WITHIN, 'Ada', 'again')));
      for (const person of people) assert.equal((await person.heard()).length, 5, 'a message came twice, or not at all');
      await people[3].page.click('role=button[name="Leave"]');
      await people[2].page.close();
      await Promise.all([people[0].sees(GONE_WITHIN, 'Bob'), people[1].sees(GONE_WITHIN, 'Ada')]);
    });
  });

  test('a file is taken, held up, cut off and whole in the end', async (t) => {
    const [a, b] = nodes.ws;
    await withVisitors([pageOf(a), pageOf(b)], async (ada, bob) => {
      const room = newRoom('files');
      await Promise.all([ada.enter(room, 'Ada'), bob.enter(room, 'Bob')]);
      await Promise.all([ada.sees(MEET_WITHIN, 'Bob'), bob.sees(MEET_WITHIN, 'Ada')]);
      const bytes = randomBytes(30_000_000);
      await ada.page.setInputFiles('#files', { name: 'a film.bin', mimeType: 'application/octet-stream', buffer: bytes });
      const card = bob.page.locator('.file', { hasText: 'a film.bin' });
      const became = (state) => within(FILE_WITHIN, `the file is ${state}`, bob.page.waitForSelector(`.file[data-state=${state}]`, { timeout: FILE_WITHIN }),
        () => bob.detail());
      const got = () => bob.page.$eval('.file progress', (bar) => bar.value);
      const flows = async (from) => within(FILE_WITHIN, 'more of the file comes',
        bob.page.waitForFunction((n) => document.querySelector('.file progress').value > n, from, { timeout: FILE_WITHIN }));
      const began = performance.now();
      await card.getByRole('button', { name: 'Get' }).click();
      await flows(0);
      await card.getByRole('button', { name: 'Pause' }).click();
      await became('paused');
      const half = await got();
      assert.ok(half > 0 && half < bytes.length, `${half} bytes when it was held up`);
      await card.getByRole('button', { name: 'Go on' }).click();
      await flows(half);
      await bob.page.evaluate(() => globalThis.cutConnections());
      const [download] = await Promise.all([
        bob.page.waitForEvent('download', { timeout: FILE_WITHIN }),
        became('done').then(() => card.getByRole('button', { name: 'Save' }).click()),
      ]);
      report(t, 'a file of 30 MB, held up and cut off on its way', performance.now() - began);
      const hash = (b) => createHash('sha256').update(b).digest('hex');
      assert.equal(hash(await readFile(await download.path())), hash(bytes));
      assert.equal(download.suggestedFilename(), 'a film.bin');
    });
  });

  test('two who are connected talk on when a node is killed, and are met on another', async () => {
    const [a, b, c] = nodes.ws;
    await withVisitors([pageOf(b), pageOf(c), pageOf(a)], async (bob, cleo, dan) => {
      const room = newRoom('loss');
      await bob.enter(room, 'Bob');
      await cleo.enter(room, 'Cleo');
      await Promise.all([bob.sees(MEET_WITHIN, 'Cleo'), cleo.sees(MEET_WITHIN, 'Bob')]);
      nodes.kill(2);
      await within(SHOWN_WITHIN, 'the page sees its node go', cleo.signals.closed());
      await cleo.say('still here');
      await bob.hears(SHOWN_WITHIN, 'Cleo', 'still here');
      await bob.say('so am I');
      await cleo.hears(SHOWN_WITHIN, 'Bob', 'so am I');
      await within(SHOWN_WITHIN, 'Cleo is on another node', cleo.page.waitForFunction(
        (hosts) => hosts.some((host) => document.querySelector('#who .note').textContent === `you · ${host}`),
        [a, b].map((url) => new URL(url).host), { timeout: SHOWN_WITHIN },
      ));
      await dan.enter(room, 'Dan');
      await Promise.all([dan.sees(MEET_WITHIN, 'Bob', 'Cleo'), cleo.sees(MEET_WITHIN, 'Bob', 'Dan')]);
    }, Infinity); // requests to a node that is gone are complaints
  });
});

test('two who are on nodes that do not know each other do not meet', { skip }, async () => {
  const islands = await startNodes({ nodes: 2, federate: false });
  const visitors = await openVisitors();
  try {
    const [a, b] = islands.ws.map(pageOf);
    const [ada, bob, control] = await Promise.all([a, b, a].map((url) => visitors.visit(url)));
    const room = newRoom('islands');
    await Promise.all([ada.enter(room, 'Ada'), bob.enter(room, 'Bob')]);
    const alone = staysPending(APART_FOR, bob.sees(2 * APART_FOR, 'Ada'));
    await control.enter(room, 'Cleo');
    await ada.sees(MEET_WITHIN, 'Cleo');
    assert.equal(await alone, true, 'they met, though their nodes do not know each other');
    assert.equal(await bob.text('#count'), 'Only you so far');
  } finally {
    await visitors.close();
    await islands.close();
  }
});

describe('nodes that are started by hand', { skip }, () => {
  const started = [];
  let visitors;

  before(async () => {
    visitors = await openVisitors();
  });

  after(async () => {
    await visitors?.close();
    await Promise.all(started.map((program) => program.close()));
  });

  async function startNode(...flags) {
    const program = new Program(process.env.E2E_BIN, ['node', '--admin', '', '--data', '', '--dht=false', '--allow-private', '--json', ...flags]);
    started.push(program);
    const { url } = JSON.parse(await program.line(SHOWN_WITHIN, 'the node is ready'));
    return { program, url };
  }

  // On http:// and not loopback a browser has no crypto.subtle, no clipboard and more that is missing.
  test('a page by plain http on a LAN address meets one on loopback', async (t) => {
    const lan = await startNode('--listen', '10.99.0.1:0');
    const loopback = await startNode('--listen', '127.0.0.1:0', '--peer', lan.url);
    const [ada, bob] = await Promise.all([visitors.visit(lan.url), visitors.visit(loopback.url)]);
    assert.equal(await ada.page.evaluate(() => isSecureContext || crypto.subtle !== undefined), false);
    assert.equal(await bob.page.evaluate(() => isSecureContext && crypto.subtle !== undefined), true);
    const room = newRoom('lan');
    const began = performance.now();
    await ada.enter(room, 'Ada');
    await bob.enter(room, 'Bob');
    await Promise.all([ada.sees(MEET_WITHIN, 'Bob'), bob.sees(MEET_WITHIN, 'Ada')]);
    report(t, 'connected', performance.now() - began);
    await ada.say('by plain http');
    await bob.hears(SHOWN_WITHIN, 'Ada', 'by plain http');
    await ada.page.click('role=button[name="Copy link"]');
    await within(SHOWN_WITHIN, 'the link is copied', ada.page.waitForSelector('button:has-text("Copied")'));
    for (const visitor of [ada, bob]) {
      assert.deepEqual(visitor.complaints, []);
      await visitor.close();
    }
  });

  test('a page comes back to a node that restarts, and meets who comes then', async (t) => {
    const first = await startNode('--listen', '127.0.0.1:0');
    const ada = await visitors.visit(first.url);
    const room = newRoom('restart');
    await ada.enter(room, 'Ada');
    await ada.sees(SHOWN_WITHIN);
    await first.program.close();
    await within(SHOWN_WITHIN, 'the page sees its node go', ada.signals.closed());
    const second = await startNode('--listen', new URL(first.url).host);
    const bob = await visitors.visit(second.url);
    const began = performance.now();
    await bob.enter(room, 'Bob');
    await Promise.all([ada.sees(MEET_WITHIN, 'Bob'), bob.sees(MEET_WITHIN, 'Ada')]);
    report(t, 'connected again', performance.now() - began);
    await Promise.all([ada.close(), bob.close()]);
  });
});
