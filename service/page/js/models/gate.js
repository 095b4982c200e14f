// The gate: what the codes of a new model must be like to serve, and what was measured.

import { field, h, number } from '../dom.js';
import { percent, short } from '../scale.js';
import { table } from '../widgets.js';

/** Each limit: its name in the API, its default, and what it means. */
export const LIMITS = [
  ['min_overlap', 0.1, 'least overlap', 'share of the 10 nearest that both models find'],
  ['max_precision_drop', 0.05, 'most precision lost', 'of precision@10 by the payload field label'],
  ['min_distinct', 0.5, 'least distinct codes', 'relative to the model that serves'],
  ['max_dead_bits', 0.25, 'most dead bits', 'share of bits that are the same for 99 % of the items'],
  ['max_slowdown', 5, 'most slowdown', 'of the median search, encoding included'],
];

/** Fields for the limits. Returns `{element, values()}`. */
export function gateFields() {
  const made = LIMITS.map(([name, usual, label, hint]) => {
    const control = h('input', {
      type: 'number',
      min: 0,
      max: name === 'max_slowdown' ? null : 1,
      step: 'any',
      value: usual,
      required: true,
    });
    return { name, control, element: field(label, control, hint) };
  });
  return {
    element: h('details', {}, h('summary', {}, 'The gate'),
      h('p', { class: 'hint' },
        'What the new codes must be like. What cannot be measured, such as precision without labels, is not held ' +
          'against them.'),
      h('div', { class: 'params' }, made.map(({ element }) => element))),
    values: () => Object.fromEntries(made.map(({ name, control }) => [name, control.valueAsNumber])),
  };
}

/** What was measured of both models, beside the limits. */
export function reportView({ queries, overlap, precision, distinct, dead_bits: dead, latency_ms: latency }, gate) {
  const limit = (name) => gate[name] ?? LIMITS.find(([one]) => one === name)[1];
  const row = (name, text, old, new_, rule, passes, format) => [
    name,
    format(old),
    format(new_),
    text(limit(rule)),
    passes === null
      ? 'not measured'
      : h('span', { class: passes ? 'yes' : 'no-pass' }, passes ? '✓ passes' : '✗ does not pass'),
  ];
  const both = ({ old, new: now }) => old !== null && now !== null;
  return h('section', { class: 'report' }, h('h3', {}, 'Both models on the same searches'),
    h('p', { class: 'hint' },
      `${number(queries.recent)} recent searches and ${number(queries.stored)} stored items were searched with both.`),
    table('The two models compared', ['measure', 'serves now', 'new', 'gate', 'verdict'],
      [
        row('overlap of the 10 nearest', (at) => `at least ${percent(at)}`, null, overlap, 'min_overlap',
          overlap === null ? null : overlap >= limit('min_overlap'),
          percent),
        row('precision@10 by label', (at) => `at most ${percent(at)} lower`, precision.old, precision.new,
          'max_precision_drop',
          both(precision) ? precision.old - precision.new <= limit('max_precision_drop') : null,
          percent),
        row('distinct codes', (at) => `at least ${short(at)} × as many`, distinct.old, distinct.new, 'min_distinct',
          both(distinct) ? distinct.new >= limit('min_distinct') * distinct.old : null,
          percent),
        row('dead bits', (at) => `at most ${percent(at)}`, dead.old, dead.new, 'max_dead_bits',
          dead.new === null ? null : dead.new <= limit('max_dead_bits'),
          percent),
        row('median search', (at) => `at most ${short(at)} × as long`, latency.p50.old, latency.p50.new,
          'max_slowdown',
          both(latency.p50) ? latency.p50.new <= limit('max_slowdown') * latency.p50.old : null,
          (value) => `${short(value)} ms`),
      ]));
}
