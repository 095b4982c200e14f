// What is said of a model, in words.

import { h, number } from '../dom.js';
import { percent } from '../scale.js';

/** "8 × 8 pictures". */
export function kindOf({ input }) {
  if (input.kind === 'image')
    return `pictures, ${input.width} × ${input.height}${input.channels === 3 ? ', colour' : ''}`;
  if (input.kind === 'vector') return `vectors of ${number(input.dim)}`;
  return { text: 'texts', audio: 'sounds' }[input.kind] ?? input.kind;
}

/** "98 %", with what it is the share of. */
export function retrievalOf({ metrics }) {
  if (metrics.retrieval === null || metrics.retrieval === undefined) return '–';
  return h('span', { title: `${metrics.retrieval_measure ?? 'retrieval'}, of held-out items` },
    percent(metrics.retrieval),
    h('small', {}, ` ${metrics.retrieval_measure ?? ''}`));
}
