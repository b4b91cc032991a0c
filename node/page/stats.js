// What the node says of itself, asked for again every few seconds while anybody looks.

const EVERY = 3000;
const WITHIN = 5000;

const count = new Intl.NumberFormat();

/**
 * Fills every element with data-stat, hides what is about a door that is off, and sets data-state of the status. What else is to
 * be made of the stats, `use` does.
 */
export function watchStats(root, use) {
  const status = root.querySelector('#status');
  const shown = [...root.querySelectorAll('[data-stat]')];
  const doors = [...root.querySelectorAll('[data-door]')];
  const ask = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch('stats.json', { cache: 'no-store', signal: AbortSignal.timeout(WITHIN) });
        if (answer.status === 403) {
          say(status, 'up', 'Node is up, and private');
        } else {
          if (!answer.ok) throw new Error(answer.statusText);
          const stats = await answer.json();
          for (const e of shown) show(e, stats);
          for (const e of doors) e.hidden = !stats.doors[e.dataset.door];
          use(stats);
          say(status, 'up', 'Node is up');
        }
      } catch {
        say(status, 'down', 'Node does not answer');
      }
    }
    setTimeout(ask, EVERY);
  };
  ask();
}

// A screen reader hears of a change only.
function say(status, state, text) {
  if (status.dataset.state === state) return;
  status.dataset.state = state;
  status.querySelector('span').textContent = text;
}

function show(e, stats) {
  const value = e.dataset.stat.split('.').reduce((v, name) => v?.[name], stats);
  const tile = e.closest('[data-optional]');
  if (tile) tile.hidden = value === undefined;
  if (value === undefined) return;
  const text = format(value, e.dataset.as);
  if (e.textContent !== text) e.textContent = text;
}

function format(value, as) {
  if (as === 'time') return duration(value);
  return typeof value === 'number' ? count.format(value) : String(value);
}

/** Seconds in the two largest units. */
export function duration(seconds) {
  const units = [[86_400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = Math.max(0, units.findIndex(([size]) => seconds >= size));
  const [size, name] = seconds < 1 ? units[3] : units[first];
  const text = `${Math.floor(seconds / size)} ${name}`;
  const next = units[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return rest && seconds >= 60 ? `${text} ${rest} ${next[1]}` : text;
}
