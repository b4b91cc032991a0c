// The picture of a room: oneself in the middle, a line to everybody else. It says nothing that the list beside it does not,
// so it is hidden from screen readers.

const SVG = 'http://www.w3.org/2000/svg';
const SIZE = 220;
const RING = 80;
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

export class Graph {
  #lines;
  #dots;
  #me;
  #shown = new Map(); // by id: {line, dot, label}

  constructor(svg) {
    svg.setAttribute('viewBox', `0 0 ${SIZE} ${SIZE}`);
    svg.replaceChildren();
    make('circle', { class: 'ring', cx: SIZE / 2, cy: SIZE / 2, r: RING }, svg);
    this.#lines = make('g', {}, svg);
    this.#dots = make('g', {}, svg);
    this.#me = this.#dot('me');
    this.#place(this.#me, 0, 0);
  }

  show(me, people) {
    this.#label(this.#me, me);
    for (const [id, { line, dot }] of this.#shown) {
      if (people.some((p) => p.id === id)) continue;
      line.remove();
      dot.remove();
      this.#shown.delete(id);
    }
    people.forEach((p, i) => {
      if (!this.#shown.has(p.id)) this.#shown.set(p.id, { line: make('line', { class: 'tie' }, this.#lines), dot: this.#dot('') });
      const { line, dot } = this.#shown.get(p.id);
      const angle = -Math.PI / 2 + (2 * Math.PI * i) / people.length;
      const [x, y] = [RING * Math.cos(angle), RING * Math.sin(angle)];
      this.#label(dot, p);
      this.#place(dot, x, y);
      for (const [k, v] of Object.entries({ x1: SIZE / 2, y1: SIZE / 2, x2: SIZE / 2 + x, y2: SIZE / 2 + y })) line.setAttribute(k, v);
      line.classList.toggle('open', p.state === 'open');
      dot.classList.toggle('open', p.state === 'open');
    });
  }

  /** A message passed between oneself and a person. */
  pulse(id) {
    const line = this.#shown.get(id)?.line;
    if (!line) return;
    line.classList.add('busy');
    setTimeout(() => line.classList.remove('busy'), PULSE);
  }

  #dot(kind) {
    const g = make('g', { class: `dot ${kind}` }, this.#dots);
    make('circle', { r: kind === 'me' ? 23 : 19 }, g);
    make('text', { 'text-anchor': 'middle', dy: '0.35em' }, g);
    return g;
  }

  #label(dot, { id, name }) {
    dot.style.setProperty('--hue', hueOf(id));
    dot.lastElementChild.textContent = initials(name);
  }

  #place(dot, x, y) {
    dot.setAttribute('transform', `translate(${SIZE / 2 + x} ${SIZE / 2 + y})`);
  }
}
