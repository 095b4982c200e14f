// The hits of a search as cards, and what the service says of how it found them.

import { bitPicture } from './bits.js';
import { count, h, number } from './dom.js';
import { choosable, contentOf, itemView, payloadLine } from './items.js';

/** Cards of hits: what was stored, how far it is, and which bits differ.
 *
 * code: of the query. of: fetches a stored item by its id. choose: given the id of a hit that is clicked, if any is to
 * be. marks: ids to words that stand on their cards. */
export function hitCards(hits, { code, of, choose = null, marks = new Map(), small = false }) {
  return h(
    'ol',
    { class: `hits${small ? ' small' : ''}` },
    hits.map((hit) => {
      const place = h('div', { class: 'shown' });
      of(hit.id).then(
        ({ input, code: own }) => {
          const view = itemView(input ?? { code: own }, name(hit));
          const chosen = choose && { title: 'Search with this one', onclick: () => choose(hit.id) };
          place.append(chosen ? choosable(view, contentOf(input).kind, chosen) : view);
        },
        (error) => error.name !== 'AbortError' && place.append(h('p', { class: 'fault' }, error.message)),
      );
      const mark = marks.get(hit.id);
      const distance = h(
        'p',
        { class: 'distance' },
        small ? count(hit.distance, 'bit') : distanceWords(hit.distance),
        mark && h('em', {}, mark),
      );
      return h(
        'li',
        { class: `hit${mark ? ` ${mark}` : ''}`, 'data-id': hit.id, 'data-distance': hit.distance },
        place,
        h('div', { class: 'near' }, distance, hit.code && !small && bitPicture(hit.code, { against: code })),
        h(
          'div',
          { class: 'about' },
          payloadLine(hit.payload),
          h('p', { class: 'id' }, hit.id, hit.score !== undefined && ` · score ${number(hit.score, 3)}`),
        ),
      );
    }),
  );
}

function name(hit) {
  const payload = Object.entries(hit.payload ?? {}).map(([field, value]) => `${field} ${JSON.stringify(value)}`);
  return [`item ${hit.id}`, ...payload].join(', ');
}

/** A Hamming distance in words. */
export function distanceWords(distance) {
  if (distance === 0) return 'same code';
  return `${distance} ${distance === 1 ? 'bit differs' : 'bits differ'}`;
}

const METHODS = {
  scan: 'every code was compared',
  'multi-index-hash': 'tables of parts of the codes were looked up, which finds exactly what a scan finds',
  bucket: 'the codes at this very place were looked up',
};

function ms(time) {
  return `${number(time, 2)} ms`;
}

/** How a search was answered, in a line. */
export function planLine({ plan, took_ms: took, total, complete }) {
  return h(
    'p',
    { class: 'plan' },
    h('b', {}, plan.method),
    ` (${METHODS[plan.method] ?? 'another way'}): `,
    `${number(plan.candidates)} candidates, ${count(total, 'hit')}${complete ? '' : ' and more'}. `,
    `Encoded in ${ms(took.encode)}, searched in ${ms(took.search)}, ${ms(took.total)} in all. Exact.`,
  );
}
