// Collections: what is stored, how good its codes are, what is there twice, and what a radius means.

import { path } from '../api.js';
import * as calibration from '../collections/calibration.js';
import * as duplicates from '../collections/duplicates.js';
import * as health from '../collections/health.js';
import * as items from '../collections/items.js';
import * as snapshots from '../collections/snapshots.js';
import { field, h, number, put, select } from '../dom.js';
import { bytes, confirmed, facts, actionButton, tabs } from '../widgets.js';

export const title = 'Collections';

const LEAD =
  'A collection holds items and the codes that one model gave them. Look through it, see how good its codes ' +
  'are and what is there twice, and measure what a radius means.';

export async function show(container, { api, signal, query }) {
  const { collections, damaged } = await api.get(path('collections'), { signal });
  put(container, h('p', { class: 'lead' }, LEAD), damaged.map(damagedView));
  if (collections.length === 0) {
    container.append(
      h('p', { class: 'empty' }, 'There is no collection yet. ', h('code', {}, 'hammingbird demo'),
        ' makes two to begin with; ',
        h('a', { href: '/docs' }, 'POST /ingest'),
        ' stores your own items.'));
    return;
  }
  const place = h('div');
  const names = collections.map(({ name }) => name);
  const open = (name, view) =>
    openCollection(
      place,
      { api, signal, names, open, again: () => show(container, { api, signal, query: new URLSearchParams() }) },
      name,
      view);
  container.append(place);
  await open(names.includes(query.get('name')) ? query.get('name') : preferred(collections), query.get('view'));
}

function preferred(collections) {
  return (collections.find(({ items: stored }) => stored > 0) ?? collections[0]).name;
}

function damagedView({ name, detail }) {
  return h('div', { class: 'problem' }, h('strong', {}, `${name} is damaged and not served`), h('p', {}, detail));
}

async function openCollection(place, context, name, view) {
  context.closing?.abort();
  const closing = new AbortController();
  context.closing = closing;
  const { api, names, again } = context;
  const signal = AbortSignal.any([context.signal, closing.signal]);
  const said = h('div');
  let collection = await api.get(path('collections', name), { signal });
  const sums = h('div', {}, summary(collection));

  /** What is said of the collection, after something in it changed. */
  async function refresh() {
    collection = await api.get(path('collections', name), { signal });
    put(sums, summary(collection));
    return collection;
  }

  const remove = actionButton('Delete the collection…', said,
    async () => {
      const text = `All ${number(collection.items)} items and their codes will be gone; its snapshots stay.`;
      if (!(await confirmed({ title: `Delete ${name}?`, text, action: 'Delete it', typed: name }))) return;
      await api.del(path('collections', name), { signal });
      await again();
    },
    { kind: 'quiet' });

  const about = {
    api,
    name,
    refresh,
    get collection() {
      return collection;
    },
  };
  const parts = [
    ['items', 'Items', items],
    ['health', 'Health of the codes', health],
    ['duplicates', 'Duplicates', duplicates],
    ['calibration', 'Calibration', calibration],
    ['snapshots', 'Snapshots', snapshots],
  ];
  const bar = tabs(`Views of ${name}`,
    parts.map(([key, text, part]) => [key, text, (panel, inner) => part.show(panel, about, inner)]),
    {
      chosen: view,
      signal,
      onopen: (key) => history.replaceState(null, '', `#/collections?${new URLSearchParams({ name, view: key })}`),
    });
  put(place,
    h('div', { class: 'bar' },
      field('Collection',
        select(names, name, (other) =>
          openCollection(place, context, other, new URLSearchParams(location.hash.split('?')[1]).get('view'))))),
    sums,
    bar.element,
    said,
    h('p', { class: 'end' }, remove));
  await bar.opened;
}

function summary({ items: stored, bits, model, memory_bytes: memory, keep_inputs: kept, indexes, generations }) {
  const other = generations.find(({ state }) => state === 'kept' || state === 'ready');
  return facts([
    ['Items', number(stored)],
    ['Codes', `${bits} bits`],
    [
      'Model',
      model ? h('a', { href: `#/models?view=change` }, `${model.name}:${model.version}`) : 'none: ready-made codes',
    ],
    other && [
      other.state === 'kept' ? 'Model before' : 'Model made ready',
      other.model ? `${other.model.name}:${other.model.version}` : '–',
    ],
    memory === null ? ['Kept', 'in Milvus'] : ['Index in memory', bytes(memory)],
    model && [
      'Inputs',
      kept ? 'kept' : 'not kept',
      'What was ingested is kept, so that pictures can be shown and another model can encode it',
    ],
    indexes.length > 0 && ['Indexed fields', indexes.join(', ')],
  ]);
}
