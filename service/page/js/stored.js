// Stored items to begin with: a strip of them, of which one is chosen.

import { path } from './api.js';
import { h, put } from './dom.js';
import { choosable, contentOf, itemView, someItems } from './items.js';
import { showing } from './problem.js';

const AT_ONCE = { text: 3, audio: 6 };
const PICTURES_AT_ONCE = 8;

/** Every collection with what its model takes: `{name, bits, items, model, kind}`; kind `code` where it has none. */
export async function collectionsWithKinds(api, signal) {
  const [{ collections }, { models }] = await Promise.all([
    api.get(path('collections'), { signal }),
    api.get(path('models'), { signal }),
  ]);
  const kinds = new Map(models.map((model) => [model.fingerprint, model.input.kind]));
  return {
    models,
    collections: collections.map((one) => ({ ...one, kind: kinds.get(one.model?.fingerprint) ?? 'code' })),
  };
}

/** The collection to begin with: the one asked for, else the demo's digits, else the first that holds something. */
export function firstOf(collections, wanted) {
  return (
    collections.find((one) => one.name === wanted) ??
    collections.find((one) => one.name === 'digits') ??
    collections.find((one) => one.items > 0) ??
    collections[0]
  );
}

/** A strip of items stored in `collection` to choose one of, page by page.
 *
 * choose: given the item; the one at the place `at` is chosen at once. */
export async function storedStrip(api, collection, { choose, signal, label, at = 0 }) {
  const list = h('div', { class: 'strip', role: 'group', 'aria-label': label });
  const limit = AT_ONCE[collection.kind] ?? PICTURES_AT_ONCE;
  let after = null;

  function mark(button) {
    for (const one of list.querySelectorAll('.choose')) one.setAttribute('aria-pressed', String(one === button));
  }

  async function next() {
    const items = await someItems(api, collection.name, limit, signal, after);
    after = items.length === limit ? items.at(-1).id : null;
    put(
      list,
      items.map((item) => {
        const view = itemView(item.input ?? { code: item.code }, `item ${item.id}`);
        return choosable(view, contentOf(item.input).kind, {
          'aria-pressed': 'false',
          title: item.id,
          'data-id': item.id,
          onclick: ({ currentTarget }) => {
            mark(currentTarget);
            choose(item);
          },
        });
      }),
      more,
    );
    return items;
  }

  const more = h(
    'button',
    {
      type: 'button',
      class: 'quiet more',
      onclick: () =>
        showing(list, async () => {
          await next();
        }),
    },
    'others',
  );
  const items = await next();
  if (items.length) {
    const place = Math.min(at, items.length - 1);
    mark(list.querySelectorAll('.choose')[place]);
    choose(items[place]);
  }
  return { element: list, unmark: () => mark(null), empty: items.length === 0 };
}
