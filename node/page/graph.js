// The picture of a room: everybody on a circle, oneself at its foot, and a line between any two who are connected, drawn by the way that
// their words go. It says nothing that the list beside it does not, so it is hidden from screen readers.

const SVG = 'http://www.w3.org/2000/svg';
const SIZE = 240;
const RING = 92;
const PULSE = 700;

const hues = new Map(); // by id
const MOST_HUES = 100;

/** The colour that stands for a person on this page: a hue, as far as can be from those before it. */
export function hueOf(id) {
  if (!hues.has(id)) {
    if (hues.size >= MOST_HUES) hues.clear();
    hues.set(id, (190 + 137.5 * hues.size) % 360);
  }
  return hues.get(id);
}

/** Up to two letters that stand for a name. */
export function initials(name) {
  const words = name.split(/\s+/).filter(Boolean);
  return words.slice(0, 2).map((w) => [...w][0].toUpperCase()).join('') || '…';
}

function make(name, attributes, parent) {
  const e = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  parent.append(e);
  return e;
}

/** Of a line: the same from both ends. */
const between = (a, b) => (a < b ? `${a} ${b}` : `${b} ${a}`);

export class Graph {
  #lines;
  #dots;
  #tie = new Map(); // by both ids: the line
  #dot = new Map(); // by id: the circle and its label
  #me = '';

  constructor(svg) {
    svg.setAttribute('viewBox', `0 0 ${SIZE} ${SIZE}`);
    svg.replaceChildren();
    make('circle', { class: 'ring', cx: SIZE / 2, cy: SIZE / 2, r: RING }, svg);
    this.#lines = make('g', {}, svg);
    this.#dots = make('g', {}, svg);
  }

  /** Shows oneself and everybody else: {id, name, path, links: {id, path}[]}. */
  show(me, people) {
    this.#me = me.id;
    const all = [me, ...people];
    const places = new Map(all.map(({ id }, i) => [id, this.#place(i, all.length)]));
    const ways = new Map(people.map((p) => [between(me.id, p.id), p.path]));
    for (const p of people) {
      for (const link of p.links) {
        if (places.has(link.id) && !ways.has(between(p.id, link.id))) ways.set(between(p.id, link.id), link.path);
      }
    }
    const gone = (shown, stays) => {
      for (const [id, e] of shown) {
        if (stays.has(id)) continue;
        e.remove();
        shown.delete(id);
      }
    };
    gone(this.#tie, ways);
    gone(this.#dot, places);
    for (const [ends, path] of ways) this.#draw(ends, path, places);
    for (const person of all) this.#person(person, places.get(person.id), all.length);
  }

  /** A message passed between oneself and a person. */
  pulse(id) {
    const line = this.#tie.get(between(this.#me, id));
    if (!line) return;
    line.classList.add('busy');
    setTimeout(() => line.classList.remove('busy'), PULSE);
  }

  #place(i, n) {
    const angle = Math.PI / 2 + (2 * Math.PI * i) / n;
    const r = n === 1 ? 0 : RING;
    return [SIZE / 2 + r * Math.cos(angle), SIZE / 2 + r * Math.sin(angle)];
  }

  #draw(ends, path, places) {
    if (!this.#tie.has(ends)) this.#tie.set(ends, make('line', {}, this.#lines));
    const line = this.#tie.get(ends);
    const [a, b] = ends.split(' ');
    const [[x1, y1], [x2, y2]] = [places.get(a), places.get(b)];
    for (const [k, v] of Object.entries({ x1, y1, x2, y2 })) line.setAttribute(k, v);
    const busy = line.classList.contains('busy') ? ' busy' : '';
    line.setAttribute('class', `tie ${path}${a === this.#me || b === this.#me ? ' own' : ''}${busy}`);
  }

  #person({ id, name }, [x, y], n) {
    if (!this.#dot.has(id)) {
      const g = make('g', { class: id === this.#me ? 'dot me' : 'dot' }, this.#dots);
      make('circle', {}, g);
      make('text', { 'text-anchor': 'middle', dy: '0.35em' }, g);
      this.#dot.set(id, g);
    }
    const g = this.#dot.get(id);
    const size = Math.max(8, Math.min(20, 200 / n));
    g.setAttribute('transform', `translate(${x} ${y})`);
    g.style.setProperty('--hue', hueOf(id));
    g.firstElementChild.setAttribute('r', id === this.#me ? size + 3 : size);
    g.lastElementChild.textContent = size < 12 ? '' : initials(name);
  }
}
