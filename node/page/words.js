// Names for people and rooms who have none yet, and small helpers for what is shown.

const ADJECTIVES = ['amber', 'brave', 'calm', 'clever', 'early', 'gentle', 'golden', 'lucky', 'merry', 'misty', 'quiet', 'silver', 'sunny', 'swift', 'tidy', 'wise'];
const ANIMALS = ['badger', 'crane', 'dolphin', 'falcon', 'fox', 'hare', 'heron', 'lynx', 'marten', 'otter', 'owl', 'panda', 'robin', 'seal', 'swan', 'wren'];
const PLACES = ['bay', 'bridge', 'cabin', 'cove', 'field', 'forest', 'garden', 'harbour', 'hill', 'island', 'lake', 'meadow', 'orchard', 'pier', 'river', 'valley'];

const pick = (list) => list[Math.floor(Math.random() * list.length)];
const capital = (word) => word[0].toUpperCase() + word.slice(1);

export function newName() {
  return `${capital(pick(ADJECTIVES))} ${capital(pick(ANIMALS))}`;
}

export function newRoom() {
  return `${pick(ADJECTIVES)}-${pick(PLACES)}-${Math.floor(10 + 90 * Math.random())}`;
}

/** As in “Ada, Bob, and Cleo”. */
export function list(names) {
  return new Intl.ListFormat('en').format(names);
}

/** Bytes, as people say it. */
export function sizeOf(bytes) {
  const [unit, divisor] = [['GB', 1e9], ['MB', 1e6], ['kB', 1e3]].find(([, d]) => bytes >= d) ?? ['bytes', 1];
  return `${new Intl.NumberFormat('en', { maximumFractionDigits: divisor === 1 ? 0 : 1 }).format(bytes / divisor)} ${unit}`;
}

export function element(tag, className, text = '') {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

/** Changes only what is different, so that a screen reader does not hear the rest again. */
export function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}
