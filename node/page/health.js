// How this node is, in short: what its operator finds out in full with `peerserver doctor`.

import { duration } from './stats.js';
import { element, say } from './words.js';

const ASK_EVERY = 60_000; // for its record
const WITHIN = 5000;
const count = new Intl.NumberFormat('en');

/** Shows what is known of each part. A node tells no address. */
export class Health {
  #list;
  #about; // what it says of itself

  constructor(root) {
    this.#list = root.querySelector('#health');
    const ask = async () => {
      if (!document.hidden) this.#about = await about().catch(() => this.#about);
      setTimeout(ask, ASK_EVERY);
    };
    ask();
  }

  show(stats) {
    const parts = partsOf(stats, this.#about, location.protocol === 'https:');
    while (this.#list.children.length > parts.length) this.#list.lastElementChild.remove();
    parts.forEach(([name, state, text], i) => {
      let item = this.#list.children[i];
      if (!item) {
        item = element('li', '');
        item.append(element('b', ''), element('span', ''));
        this.#list.append(item);
      }
      item.dataset.state = state;
      say(item.children[0], name);
      say(item.children[1], text);
    });
  }
}

async function about() {
  const answer = await fetch('.well-known/peerserver', { signal: AbortSignal.timeout(WITHIN) });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

/** Name, state and a few words of each part there is: good, bad, or plain where there is nothing to say against it. */
function partsOf(stats, about, secure) {
  return [dht(stats.dht), outside(stats.reach), mapping(stats.reach?.portmap), certificate(stats.tls, secure), relays(stats.ice, about)].filter(Boolean);
}

function dht(of) {
  if (!of) return ['DHT', 'plain', 'switched off; it knows the nodes it was told of'];
  if (of.nodes === 0) return ['DHT', 'bad', 'no node of it answers'];
  const known = `knows ${count.format(of.nodes)} ${of.nodes === 1 ? 'node' : 'nodes'} of it`;
  return of.published ? ['DHT', 'good', `${known}, and is found there`] : ['DHT', 'plain', `${known}, and is not found there`];
}

function outside(reach) {
  const name = 'From outside';
  if (!reach) return undefined; // a node on one machine
  if (reach.tcp === 'failed') return [name, 'bad', 'other nodes do not reach it; it reaches them'];
  if (reach.stun === 'failed') return [name, 'bad', reach.tcp === 'reached' ? 'reached, but not over UDP' : 'not reached over UDP'];
  if (reach.tcp === 'reached') return [name, 'good', 'other nodes reach it'];
  return [name, 'plain', 'nobody has tried yet'];
}

function mapping(by) {
  if (!by) return undefined;
  return by === 'none' ? ['Port mapping', 'bad', 'no router does it'] : ['Port mapping', 'good', `by ${by === 'upnp' ? 'UPnP' : by.toUpperCase()}`];
}

function certificate(tls, secure) {
  if (tls?.fault) return ['TLS', 'bad', tls.fault];
  const left = tls?.not_after && (Date.parse(tls.not_after) - Date.now()) / 1000;
  if (left > 0) return ['TLS', 'good', `its certificate is good for ${duration(left)}`];
  return secure ? ['TLS', 'good', 'by a proxy in front'] : ['TLS', 'plain', 'none; pages from https:// cannot use it'];
}

function relays(ice, about) {
  if (!ice) return ['STUN and TURN', 'bad', 'none; peers on different networks may not connect'];
  return ['STUN and TURN', 'good', about?.turn_port || about?.turn_tls_ports ? 'both' : 'STUN; others of the mesh relay'];
}
