// The way from one stored item to another through a model's latent space.

import { path } from '../api.js';
import { bitPicture } from '../bits.js';
import { field, h, later, put, tell } from '../dom.js';
import { itemView } from '../items.js';
import { showing } from '../problem.js';
import { storedStrip } from '../stored.js';
import { collectionsFor, modelField, nobody, referenceOf } from './choice.js';

export function walkSection(place, { api, signal, able, collections }) {
  put(
    place,
    h('h2', {}, 'Walk'),
    h(
      'p',
      { class: 'says' },
      'From one item to another in small steps, each an item of its own; the bits of its code change on the way.',
    ),
  );
  if (able.length === 0) {
    place.append(nobody('walk between items', 'vae'));
    return;
  }
  const first = able.find((model) => model.family === 'vae') ?? able[0];
  const state = { model: first, steps: 8, a: null, b: null, collection: null };
  const ends = { a: h('div'), b: h('div') };
  const way = h('div', { class: 'made' });

  const walk = later(
    () =>
      showing(
        way,
        async () => {
          if (state.a === null || state.b === null) return h('p', { class: 'empty' }, 'Choose two items.');
          const { items } = await api.post(
            path('interpolate'),
            {
              model: referenceOf(state.model),
              a: { id: state.a },
              b: { id: state.b },
              steps: state.steps,
              collection: state.collection.name,
            },
            { signal },
          );
          tell(`${items.length} steps`);
          return h(
            'div',
            { class: 'samples way' },
            items.map((item, at) =>
              h(
                'figure',
                {},
                itemView(item, `step ${at + 1} of ${items.length}`),
                h('figcaption', {}, bitPicture(item.code, { against: items[Math.max(at - 1, 0)].code })),
              ),
            ),
          );
        },
        walk,
      ),
    60,
  );

  async function offer() {
    [state.collection] = collectionsFor(state.model, collections);
    state.a = state.b = null;
    if (!state.collection) {
      put(
        ends.a,
        h('p', { class: 'empty' }, `No collection holds items of kind ${state.model.input.kind}; ingest some.`),
      );
      put(ends.b);
      return;
    }
    await Promise.all(
      [
        ['a', 0, 'From'],
        ['b', 3, 'To'],
      ].map(([end, at, label]) =>
        showing(ends[end], async () => {
          const strip = await storedStrip(api, state.collection, {
            signal,
            at,
            label,
            choose: (item) => {
              state[end] = item.id;
              walk();
            },
          });
          return [h('h3', {}, label), strip.element];
        }),
      ),
    );
  }

  place.append(
    h(
      'div',
      { class: 'split' },
      h(
        'form',
        { onsubmit: (event) => event.preventDefault() },
        modelField(able, first, (model) => {
          state.model = model;
          offer();
        }),
        ends.a,
        ends.b,
        field(
          'Steps',
          h('input', {
            type: 'range',
            min: 3,
            max: 16,
            value: state.steps,
            onchange: ({ target }) => {
              state.steps = target.valueAsNumber;
              walk();
            },
          }),
        ),
      ),
      way,
    ),
  );
  offer();
}
