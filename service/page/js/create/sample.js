// New items by chance, the same for the same seed.

import { path } from '../api.js';
import { field, h, later, number, put, tell } from '../dom.js';
import { hitCards } from '../hits.js';
import { itemView } from '../items.js';
import { showing } from '../problem.js';
import { collectionsFor, modelField, nobody, referenceOf } from './choice.js';

export function sampleSection(place, { api, signal, able, collections, fetched }) {
  put(
    place,
    h('h2', {}, 'Sample'),
    h(
      'p',
      { class: 'says' },
      'New items, drawn by chance: none of them is stored. Below each, the stored item nearest to it.',
    ),
  );
  if (able.length === 0) {
    place.append(nobody('make new items', 'vae'));
    return;
  }
  const first = able.find((model) => model.family === 'vae') ?? able[0];
  const state = { model: first, seed: 7, n: 12, temperature: 1 };
  const made = h('div', { class: 'made' });
  const seed = h('input', {
    type: 'number',
    min: 0,
    step: 1,
    value: state.seed,
    onchange: () => {
      state.seed = seed.valueAsNumber || 0;
      draw();
    },
  });
  const heat = h('output', {}, '1');
  const draw = later(
    () =>
      showing(
        made,
        async () => {
          const [collection] = collectionsFor(state.model, collections);
          const reply = await api.post(
            path('generate'),
            {
              model: referenceOf(state.model),
              n: state.n,
              seed: state.seed,
              temperature: state.temperature,
              ...(collection ? { collection: collection.name } : {}),
            },
            { signal },
          );
          tell(`${reply.items.length} items made`);
          return h(
            'div',
            { class: 'samples' },
            reply.items.map((item, at) =>
              h(
                'figure',
                {},
                itemView(item, `sample ${at + 1}`),
                item.nearest?.length > 0 &&
                  h(
                    'figcaption',
                    {},
                    hitCards(item.nearest.slice(0, 1), {
                      of: (id) => fetched(collection.name, id),
                      small: true,
                    }),
                  ),
              ),
            ),
          );
        },
        draw,
      ),
    60,
  );
  place.append(
    h(
      'div',
      { class: 'split' },
      h(
        'form',
        { onsubmit: (event) => event.preventDefault() },
        modelField(able, first, (model) => {
          state.model = model;
          draw();
        }),
        field('Seed', seed, 'the same seed makes the same items'),
        field(
          'How many',
          h('input', {
            type: 'number',
            min: 1,
            max: 64,
            value: state.n,
            onchange: ({ target }) => {
              state.n = Math.min(Math.max(target.valueAsNumber || 1, 1), 64);
              target.value = state.n;
              draw();
            },
          }),
        ),
        field(
          h('span', {}, 'Temperature ', heat),
          h('input', {
            type: 'range',
            min: 0,
            max: 2,
            step: 0.1,
            value: 1,
            oninput: ({ target }) => {
              state.temperature = target.valueAsNumber;
              heat.textContent = number(state.temperature, 1);
              draw();
            },
          }),
          'low: the usual; high: the unusual',
        ),
        h(
          'div',
          { class: 'buttons' },
          h(
            'button',
            {
              type: 'button',
              class: 'primary',
              onclick: () => {
                state.seed += 1;
                seed.value = state.seed;
                draw();
              },
            },
            'Another seed',
          ),
        ),
      ),
      made,
    ),
  );
  draw();
}
