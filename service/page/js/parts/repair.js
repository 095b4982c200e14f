// Repair: damage an item, see what the model makes of it, and search with either.

import { path } from '../api.js';
import { field, h, later, number, put, select, tell } from '../dom.js';
import { editorFor } from '../editors.js';
import { hitCards } from '../hits.js';
import { chooser, bytes64 } from '../inputs.js';
import { itemView, shelf } from '../items.js';
import { problemView, Refused, showing } from '../problem.js';
import { collectionsWithKinds, storedStrip } from '../stored.js';

export const title = 'Repair';

const NEAREST = 6;
const LEAD =
  'A model that has seen many items knows what they usually look like. Draw over one, make it noisy or mask a ' +
  'part of it: the model gives back what was probably there, and a search finds again what the damage had hidden.';

export async function show(container, { api, signal }) {
  const { collections, models } = await collectionsWithKinds(api, signal);
  const able = models.filter(
    ({ capabilities }) => capabilities.includes('denoise') || capabilities.includes('inpaint'),
  );
  put(container, h('p', { class: 'lead' }, LEAD));
  if (able.length === 0) {
    container.append(
      h(
        'p',
        { class: 'empty' },
        'No model here repairs items. Train one of a family that does, such as ',
        h('code', {}, 'denoising-autoencoder'),
        '.',
      ),
    );
    return;
  }
  const usable = (model) => collections.find((one) => one.kind === model.input.kind && one.items > 0);
  const first = able.find(usable) ?? able[0];
  const place = h('div', { class: 'split' });
  container.append(place);
  await openModel(place, { api, signal }, { able, collections }, first);
}

async function openModel(place, { api, signal: leaving }, all, model) {
  const closing = new AbortController();
  const signal = AbortSignal.any([leaving, closing.signal]);
  const { kind } = model.input;
  const fetched = shelf(api, signal);
  const fitting = all.collections.filter((one) => one.kind === kind && one.items > 0);
  const state = { collection: fitting[0] ?? null, original: null, steps: 1 };
  const reference = `${model.name}:${model.version}`;
  const output = h('div', { class: 'repaired' });
  const found = h('div', { class: 'found' });
  const strip = h('div');
  const editor = editorFor(kind, later(repair, 60));
  let asking = new AbortController();

  async function begin(item) {
    state.original = item;
    await editor.load(item.input);
    editor.example(model.capabilities.includes('inpaint'));
    await repair();
  }

  async function repair() {
    asking.abort();
    asking = new AbortController();
    const now = AbortSignal.any([signal, asking.signal]);
    await showing(
      output,
      async () => {
        const [input, mask] = [editor.input(), editor.mask()];
        const way = mask === null ? 'denoise' : 'inpaint';
        if (!model.capabilities.includes(way)) throw new Refused(cannot(reference, way));
        const request = { model: reference, input, steps: state.steps };
        if (mask !== null) request.mask = mask;
        if (state.collection) request.search = { collection: state.collection.name, k: NEAREST };
        const reply = await api.post(path('denoise'), request, { signal: now });
        tell(mask === null ? 'denoised' : 'filled in');
        searchBoth(input, reply, now);
        return resultView(state.original, input, reply, mask !== null);
      },
      repair,
    );
  }

  async function searchBoth(input, reply, now) {
    if (!state.collection) return;
    const { name } = state.collection;
    await showing(found, async () => {
      const { hits } = await api.post(path('search'), { collection: name, query: input, k: NEAREST }, { signal: now });
      const marks = new Map(state.original.id ? [[state.original.id, 'the original']] : []);
      const row = (text, some) => [
        h('h3', {}, text),
        hitCards(some, { of: (id) => fetched(name, id), marks, small: true }),
      ];
      return h(
        'section',
        { 'aria-labelledby': 'found-title' },
        h('h2', { id: 'found-title' }, `Searching ${name} with either`),
        row('The damaged one finds', hits),
        row('The repaired one finds', reply.hits),
      );
    });
  }

  put(
    place,
    h(
      'form',
      { class: 'query', onsubmit: (event) => event.preventDefault() },
      field(
        'Model',
        select(
          all.able.map((one) => [`${one.name}:${one.version}`, `${one.name}:${one.version}`]),
          reference,
          (chosen) => {
            closing.abort();
            openModel(
              place,
              { api, signal: leaving },
              all,
              all.able.find((one) => `${one.name}:${one.version}` === chosen),
            );
          },
        ),
        `${model.family}, for ${KINDS[kind]}; it can ${abilities(model)}`,
      ),
      fitting.length > 1 &&
        field(
          'Items of',
          select(
            fitting.map((one) => one.name),
            state.collection.name,
            (chosen) => {
              state.collection = fitting.find((one) => one.name === chosen);
              offer();
            },
          ),
        ),
      h('h2', {}, 'An item'),
      strip,
      kind === 'image' &&
        h(
          'div',
          { class: 'buttons' },
          chooser('Your own picture…', 'image/png,image/jpeg,image/webp', async (file) =>
            begin({ id: null, input: { image: await bytes64(file) } }),
          ),
        ),
      field(
        'Rounds',
        h('input', {
          type: 'number',
          min: 1,
          max: 100,
          value: 1,
          onchange: ({ target }) => {
            state.steps = target.valueAsNumber || 1;
            repair();
          },
        }),
        'the model may look at its own result again',
      ),
    ),
    h(
      'div',
      { class: 'answer' },
      h(
        'div',
        { class: 'bench' },
        h(
          'section',
          { 'aria-labelledby': 'damage-title' },
          h('h2', { id: 'damage-title' }, 'Damage it'),
          editor.element,
        ),
        output,
      ),
      found,
    ),
  );

  async function offer() {
    await showing(strip, async () => {
      if (!state.collection) {
        return h('p', { class: 'empty' }, `No collection holds ${KINDS[kind]}; give one of your own.`);
      }
      const made = await storedStrip(api, state.collection, {
        signal,
        label: 'Stored items',
        at: 7,
        choose: (item) => begin(item).catch((error) => put(output, problemView(error))),
      });
      return made.element;
    });
  }
  await offer();
}

function abilities({ capabilities, input }) {
  const ways = input.kind === 'text' ? ['denoise'] : ['denoise', 'inpaint']; // a text has no mask
  return ways.filter((one) => capabilities.includes(one)).join(' and ');
}

const KINDS = { image: 'pictures', text: 'texts', vector: 'vectors', audio: 'sounds' };

function cannot(reference, way) {
  return way === 'inpaint'
    ? `${reference} cannot fill in what is missing; take the mask away, or choose another model`
    : `${reference} only fills in what is missing; mask a part of the item`;
}

function resultView(original, damaged, reply, masked) {
  const figure = (item, text) => h('figure', {}, itemView(item, text, { whole: true }), h('figcaption', {}, text));
  return h(
    'section',
    { 'aria-labelledby': 'repair-title' },
    h('h2', { id: 'repair-title' }, masked ? 'Filled in' : 'Denoised'),
    figure(reply.output, 'the model’s repair'),
    h(
      'div',
      { class: 'compared' },
      figure(original.input, 'the original'),
      h(
        'p',
        { class: 'hint' },
        'How far the model finds each from the usual (mean squared): ' +
          `${number(reply.error_before, 4)} damaged, ${number(reply.error_after, 4)} repaired.`,
      ),
    ),
  );
}
