// How to point a client library at this very node: its URL, and a few lines for each library.

const SAID_FOR = 1600;

/** The URL of the node's door, as this page was reached. */
export function nodeURL(location = globalThis.location) {
  const url = new URL('.', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href.replace(/\/$/, '');
}

export function showUse(root) {
  for (const e of root.querySelectorAll('[data-url]')) {
    if (e instanceof HTMLInputElement) e.value = nodeURL();
    else e.textContent = nodeURL();
  }
  for (const e of root.querySelectorAll('[data-origin]')) e.textContent = nodeURL().replace(/^ws/, 'http');
  const { protocol, hostname, port, pathname } = new URL(`${nodeURL()}/`);
  const parts = { host: hostname, secure: protocol === 'wss:', port: port || (protocol === 'wss:' ? 443 : 80), path: pathname };
  for (const e of root.querySelectorAll('[data-part]')) e.textContent = parts[e.dataset.part];
  root.querySelector('#insecure').hidden = location.protocol === 'https:';
  tabs(root.querySelector('[role=tablist]'));
}

/** Makes every button with data-copy copy the text of the element that it names. */
export function copyButtons(root) {
  for (const button of root.querySelectorAll('[data-copy]')) {
    const usual = button.textContent;
    let timer;
    button.addEventListener('click', async () => {
      const from = document.getElementById(button.dataset.copy);
      const done = await copy(from.value ?? from.textContent, from);
      button.textContent = done ? 'Copied' : 'Press Ctrl+C';
      clearTimeout(timer);
      timer = setTimeout(() => {
        button.textContent = usual;
      }, SAID_FOR);
    });
  }
}

// navigator.clipboard is missing where a node is reached by plain http.
async function copy(text, from) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (from.select) from.select();
    else getSelection().selectAllChildren(from);
    try {
      return document.execCommand('copy');
    } catch {
      return false;
    }
  }
}

// https://www.w3.org/WAI/ARIA/apg/patterns/tabs/
function tabs(list) {
  const all = [...list.querySelectorAll('[role=tab]')];
  const choose = (tab, focus) => {
    for (const t of all) {
      t.setAttribute('aria-selected', String(t === tab));
      t.tabIndex = t === tab ? 0 : -1;
      document.getElementById(t.getAttribute('aria-controls')).hidden = t !== tab;
    }
    if (focus) tab.focus();
  };
  list.addEventListener('click', ({ target }) => {
    if (all.includes(target)) choose(target);
  });
  list.addEventListener('keydown', (event) => {
    const there = all.filter((tab) => !tab.hidden);
    const at = there.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: there.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    choose(there[(to + there.length) % there.length], true);
  });
  choose(all[0]);
}
