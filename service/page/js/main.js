// The shell: which part is open, by the address behind the `#`, and what all parts share.

import { api } from './api.js';
import { h, put } from './dom.js';
import { install } from './key.js';
import { problemView } from './problem.js';

// Each is a module in parts/ with a `title` and `async show(container, {api, signal, query})`, loaded when it opens.
// `query` is what follows the `?` behind the part's name; `signal` is aborted when another part is opened.
const PARTS = {
  search: 'Search',
  repair: 'Repair',
  create: 'Create',
  collections: 'Collections',
  models: 'Models',
};

const main = document.getElementById('main');
const nav = document.getElementById('parts');
let leaving = new AbortController();

function wanted() {
  const [name, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { name: name in PARTS ? name : Object.keys(PARTS)[0], query: new URLSearchParams(query) };
}

async function open() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { name, query } = wanted();
  document.title = `${PARTS[name]} · Hammingbird`;
  put(
    nav,
    Object.entries(PARTS).map(([part, title]) =>
      h('a', { href: `#/${part}`, 'aria-current': part === name ? 'page' : null }, title),
    ),
  );
  nav.scrollLeft = nav.querySelector('[aria-current]').offsetLeft - nav.offsetLeft - 60; // where they do not all fit
  const place = h('section', { class: `part part-${name}`, 'aria-labelledby': 'part-title' });
  const title = h('h1', { id: 'part-title' }, PARTS[name]);
  put(main, title, place);
  try {
    const part = await load(name);
    if (!signal.aborted) await part.show(place, { api, signal, query });
  } catch (error) {
    if (error.name !== 'AbortError' && !signal.aborted) put(place, problemView(error, open));
  }
}

async function load(name) {
  try {
    return await import(`./parts/${name}.js`);
  } catch (error) {
    // A newer version of the page has other addresses for its files.
    if (error instanceof TypeError)
      throw new Error('this part could not be loaded; the service may have been upgraded');
    throw error;
  }
}

document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault(); // the address names the part
  main.focus();
});
install(open);
addEventListener('hashchange', open);
open();
