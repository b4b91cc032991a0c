// A file in the chat: its name and size, how far it has come, and what can be done with it.

import { element, say, sizeOf } from './words.js';

const SAYS = { offered: 'Get', running: 'Pause', paused: 'Go on', waiting: 'Pause', failed: 'Try again', done: 'Save' };

/** The card of a file that somebody else offers. */
export function offeredCard(download) {
  const card = element('div', 'file');
  const bar = element('progress', 'progress');
  bar.max = Math.max(1, download.size);
  bar.ariaLabel = `${download.name}, received`;
  const note = element('small', 'note');
  const button = element('button', 'get');
  button.type = 'button';
  let url;
  const save = () => {
    url ??= URL.createObjectURL(download.blob());
    const a = element('a', '');
    a.href = url;
    a.download = download.name;
    a.click();
  };
  button.addEventListener('click', () => {
    if (download.state === 'done') save();
    else if (download.state === 'running' || download.state === 'waiting') download.pause();
    else download.start();
  });
  download.changed = () => {
    card.dataset.state = download.state;
    bar.hidden = download.state === 'offered' || download.state === 'done';
    bar.value = download.got;
    say(button, SAYS[download.state]);
    button.ariaLabel = `${SAYS[download.state]} ${download.name}`;
    say(note, noteOf(download));
  };
  download.changed();
  card.append(element('b', 'file-name', download.name), button, bar, note);
  return card;
}

/** The card of a file of one's own. */
export function ownCard({ name, size }) {
  const card = element('div', 'file');
  card.append(element('b', 'file-name', name), element('small', 'note', `${sizeOf(size)}; whoever is here can get it while you stay`));
  return card;
}

function noteOf({ state, got, size }) {
  if (state === 'offered' || state === 'done') return sizeOf(size);
  const far = `${sizeOf(got)} of ${sizeOf(size)}`;
  if (state === 'waiting') return `${far}; goes on when its owner is back`;
  return state === 'failed' ? `${far}; it is no longer to be had` : far;
}
