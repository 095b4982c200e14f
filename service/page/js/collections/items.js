// The items of a collection, page by page: only one page is ever loaded, so a million are as quick as a hundred.

import { path } from '../api.js';
import { bitPicture } from '../bits.js';
import { count, field, h, number, put, tell, unique } from '../dom.js';
import { itemView, payloadLine } from '../items.js';
import { actionButton, confirmed, guarded } from '../widgets.js';

const PAGE = 48;

export async function show(place, about, signal) {
  const { api, name } = about;
  const starts = [null]; // the cursors of the pages up to this one
  let next = null;
  const grid = h('ul', { class: 'item-grid' });
  const where = h('p', { class: 'where', 'aria-live': 'polite' });
  const back = h('button',
    {
      type: 'button',
      onclick: () => {
        starts.pop();
        load();
      },
    },
    '← Previous');
  const forward = h('button',
    {
      type: 'button',
      onclick: () => {
        starts.push(next);
        load();
      },
    },
    'Next →');
  const said = h('div');
  const wanted = h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', placeholder: 'its id' });
  const find = h('form',
    {
      class: 'find',
      onsubmit: (event) => {
        event.preventDefault();
        guarded(put(said), look, signal);
      },
    },
    field('Find an item', wanted),
    h('button', {}, 'Show'));

  async function look() {
    if (wanted.value === '') return;
    const item = await api.get(path('collections', name, 'items', wanted.value), { signal });
    openItem(item, about, signal, load);
  }

  const load = () =>
    guarded(said,
      async () => {
        put(said);
        grid.setAttribute('aria-busy', 'true');
        const page = await api.get(
          path('collections', name, 'items', { limit: PAGE, cursor: starts.at(-1), include: 'input' }),
          { signal });
        next = page.cursor;
        grid.removeAttribute('aria-busy');
        put(grid, page.items.map((item) => card(item, () => openItem(item, about, signal, load))));
        back.disabled = starts.length === 1;
        forward.disabled = next === null;
        put(where,
          page.items.length ? whereText(page, starts.length, about.collection.items) : 'This collection is empty.');
      },
      signal);

  put(place, h('div', { class: 'bar' }, h('div', { class: 'pager' }, back, forward, where), find), said, grid);
  await load();
}

function whereText({ items, cursor }, page, all) {
  const whole = page === 1 && cursor === null;
  return whole
    ? `all ${count(items.length, 'item')}`
    : `page ${number(page)}: ${items[0].id} to ${items.at(-1).id}, of ${count(all, 'item')}`;
}

function card(item, open) {
  return h('li', {},
    h('button', { type: 'button', class: 'item-card', onclick: open },
      item.input ? itemView(still(item.input), item.id) : bitPicture(item.code),
      h('span', { class: 'item-id' }, item.id),
      item.payload && payloadLine(brief(item.payload))));
}

/** A sound cannot be played inside a button: it is shown where the item is opened. */
function still(input) {
  return input.audio ? { text: '♪ sound' } : input;
}

/** The members of a payload that fit on a card. */
function brief(payload) {
  return Object.fromEntries(
    Object.entries(payload)
      .slice(0, 2)
      .map(([key, value]) => {
        const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
        return [key, text.length > 40 ? `${text.slice(0, 39)}…` : text];
      }));
}

/** One item whole, in a dialog. changed: called when it was deleted. */
export function openItem(item, { api, name, refresh }, signal, changed) {
  const heading = unique('item');
  const said = h('div');
  const dialog = h('dialog', { class: 'item-dialog', 'aria-labelledby': heading, onclose: () => dialog.remove() },
    h('h2', { id: heading }, item.id),
    item.input
      ? itemView(item.input, item.id, { whole: true })
      : h('p', { class: 'hint' }, 'Its input is not kept; its code and payload are.'),
    h('h3', {}, 'Code'),
    bitPicture(item.code),
    h('code', { class: 'long' }, item.code),
    h('h3', {}, 'Payload'),
    item.payload ? h('pre', {}, JSON.stringify(item.payload, null, 2)) : h('p', { class: 'hint' }, 'none'),
    said,
    h('div', { class: 'buttons' },
      h('button', { type: 'button', onclick: () => dialog.close(), autofocus: true }, 'Close'),
      actionButton('Delete…', said,
        async () => {
          if (
            !(await confirmed({
              title: `Delete ${item.id}?`,
              text: 'The item, its code and its payload will be gone at once.',
              action: 'Delete it',
            }))
          )
            return;
          await api.del(path('collections', name, 'items', item.id), { signal });
          dialog.close();
          await refresh();
          await changed();
          tell(`${item.id} is deleted`);
        },
        { kind: 'danger' })));
  document.body.append(dialog);
  signal.addEventListener('abort', () => dialog.close(), { once: true });
  dialog.showModal();
}
