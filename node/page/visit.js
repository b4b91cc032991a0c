// What the visitor's own network does to connections, when they ask.

import { element, say } from './words.js';

const NATS = {
  none: 'You are on the internet itself: direct connections work.',
  cone: 'Your router is one that direct connections work with.',
  symmetric: 'Your router makes direct connections hard.',
};

/** A part of the page that is filled when it is opened; `look` gives what the SDK's room.diagnose does. */
export function lookWhenOpened(details, look) {
  const said = details.querySelector('[role=status]');
  const list = details.querySelector('ul');
  let run = 0; // the last one counts
  details.addEventListener('toggle', async () => {
    const mine = ++run;
    list.replaceChildren();
    if (!details.open) return;
    say(said, 'Looking …');
    try {
      const found = await look();
      if (mine !== run) return;
      say(said, summaryOf(found));
      list.replaceChildren(...found.troubles.map(({ text }) => element('li', '', text)));
    } catch {
      if (mine === run) say(said, 'It could not be looked at.');
    }
  });
}

function summaryOf({ ok, nat, udp, turn }) {
  const parts = [NATS[nat] ?? (ok ? 'Nothing is in the way that can be seen from here.' : '')];
  if (udp === 'blocked') parts.push('Your network lets no UDP through.');
  if (turn.some((one) => one.ok)) parts.push('A node relays where there is no direct way.');
  return parts.filter(Boolean).join(' ');
}
