// A code bit by bit: what it decodes to, and which stored items are nearest to it.

import { path } from '../api.js';
import { bitButtons, bitsOf, codeOf, differing } from '../bits.js';
import { count, field, h, put, select, tell } from '../dom.js';
import { hitCards } from '../hits.js';
import { itemView } from '../items.js';
import { showing } from '../problem.js';
import { storedStrip } from '../stored.js';
import { isOf, nobody, referenceOf } from './choice.js';

const NEAREST = 6;

export function flipSection(place, { api, signal, able, collections, fetched }) {
  put(
    place,
    h('h2', {}, 'Flip bits'),
    h(
      'p',
      { class: 'says' },
      'The code of a stored item. Click its bits: the model decodes the changed code, and other items come near.',
    ),
  );
  // Only a collection of the model's own codes can say what is near to a code.
  const pairs = collections
    .filter((one) => one.items > 0)
    .flatMap((collection) => {
      const model = able.find((one) => isOf(one, collection));
      return model ? [{ collection, model }] : [];
    });
  if (pairs.length === 0) {
    place.append(nobody('decode the codes of a collection', 'binary-autoencoder'));
    return;
  }
  let pair = pairs.find(({ collection }) => collection.name === 'digits') ?? pairs[0];
  let original = null;
  let before = null;
  let asking = new AbortController();
  const strip = h('div');
  const grid = h('div', { class: 'flipped' });
  const made = h('div', { class: 'made' });

  function begin(item) {
    original = item.code;
    before = null;
    change(item.code);
  }

  function change(code) {
    const kept = grid.querySelector('.bit:focus')?.getAttribute('title');
    const flipped = differing(original, code);
    put(
      grid,
      bitButtons(code, { against: original, onflip: (bit) => change(flip(code, bit)) }),
      h(
        'div',
        { class: 'buttons' },
        h(
          'button',
          { type: 'button', onclick: () => change(flip(code, Math.floor(Math.random() * bitsOf(code).length))) },
          'Flip any bit',
        ),
        h('button', { type: 'button', disabled: flipped.length === 0, onclick: () => change(original) }, 'Undo all'),
        h(
          'span',
          { class: 'hint' },
          flipped.length ? `${count(flipped.length, 'bit')} flipped: ${flipped.join(', ')}` : 'no bit flipped',
        ),
      ),
      h('code', { class: 'nothing' }, code),
    );
    const again = kept && grid.querySelector(`.bit[title="${kept}"]`);
    if (again) {
      grid.querySelector('.bit[tabindex="0"]').tabIndex = -1;
      again.tabIndex = 0;
      again.focus();
    }
    look(code);
  }

  async function look(code) {
    asking.abort();
    asking = new AbortController();
    const now = AbortSignal.any([signal, asking.signal]);
    await showing(
      made,
      async () => {
        const { collection, model } = pair;
        const [decoded, found] = await Promise.all([
          api.post(path('decode'), { model: referenceOf(model), codes: [original, code] }, { signal: now }),
          api.post(
            path('search'),
            { collection: collection.name, query: { code }, k: NEAREST, include: ['payload', 'code'] },
            { signal: now },
          ),
        ]);
        const ids = found.hits.map((hit) => hit.id);
        if (code === original) before = new Set(ids);
        const marks = new Map(before === null ? [] : ids.filter((id) => !before.has(id)).map((id) => [id, 'new']));
        tell(code === original ? 'the code as it is' : `${count(marks.size, 'other item')} among the nearest`);
        const figure = (item, text) =>
          h('figure', {}, itemView(item, text, { whole: true }), h('figcaption', {}, text));
        return [
          h(
            'div',
            { class: 'figures' },
            figure(decoded.items[0], 'its code, decoded'),
            figure(decoded.items[1], code === original ? 'nothing flipped yet' : 'the changed code, decoded'),
          ),
          h('h3', {}, 'Stored items nearest to this code'),
          hitCards(found.hits, { code, of: (id) => fetched(collection.name, id), marks }),
        ];
      },
      () => look(code),
    );
  }

  async function offer() {
    await showing(strip, async () => {
      const offered = await storedStrip(api, pair.collection, {
        signal,
        at: 0,
        label: 'Stored items',
        choose: begin,
      });
      return offered.element;
    });
  }

  place.append(
    h(
      'div',
      { class: 'split' },
      h(
        'form',
        { onsubmit: (event) => event.preventDefault() },
        field(
          'Codes of',
          select(
            pairs.map(({ collection }) => collection.name),
            pair.collection.name,
            (name) => {
              pair = pairs.find(({ collection }) => collection.name === name);
              offer();
            },
          ),
          'a collection whose model decodes',
        ),
        strip,
      ),
      h('div', {}, grid, made),
    ),
  );
  offer();
}

function flip(code, bit) {
  const bits = bitsOf(code);
  bits[bit] = 1 - bits[bit];
  return codeOf(bits);
}
