// Every family of models: what it is, and what it can do.

import { path } from '../api.js';
import { h, put } from '../dom.js';
import { table } from '../widgets.js';

/** What each capability means, in words. */
export const CAPABILITIES = {
  encode: 'gives items codes',
  decode: 'turns codes back into items',
  reconstruct: 'gives an item back as it understood it',
  interpolate: 'walks from one item to another',
  sample: 'makes new items',
  vary: 'makes items like a given one',
  denoise: 'removes noise',
  inpaint: 'fills in what is missing',
  score: 'tells ordinary items from strange ones',
  weigh: 'says how likely an item is, up to a constant',
};

export async function show(place, { api }, signal) {
  const { families } = await api.get(path('families'), { signal });
  const names = Object.keys(CAPABILITIES).filter((one) =>
    families.some(({ capabilities }) => capabilities.includes(one)));
  put(place,
    h('p', {},
      'A family is a way to learn. Every one hashes; what else it can do differs. What can be done with an input of ' +
        'a kind is said of each model.'),
    table('Families', ['family', 'what it is', ...names, 'learns from labels'],
      families.map(({ name, summary, capabilities, supervised }) => [
        h('a', { href: `#/models?${new URLSearchParams({ view: 'train', family: name })}`, title: `Train a ${name}` },
          name),
        summary.split('\n')[0],
        ...names.map((one) => mark(capabilities.includes(one))),
        mark(supervised),
      ])),
    h('dl', { class: 'words' }, names.map((one) => h('div', {}, h('dt', {}, one), h('dd', {}, CAPABILITIES[one])))));
}

function mark(yes) {
  return yes
    ? h('span', { class: 'yes', role: 'img', 'aria-label': 'yes' }, '●')
    : h('span', { class: 'no', role: 'img', 'aria-label': 'no' }, '·');
}
