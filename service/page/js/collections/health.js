// The health of a collection's codes: each measure as a plot, what it means, and what can be done.

import { path } from '../api.js';
import { count, h, number, put } from '../dom.js';
import { barPlot, linePlot } from '../plot.js';
import { percent, short } from '../scale.js';
import { actionButton, ago } from '../widgets.js';

const VERDICT = {
  ok: 'The codes are in good health.',
  warning: 'The codes work; something about them could be better.',
  bad: 'Something is wrong with the codes, and searches suffer from it.',
};

export async function show(place, { api, name }, signal) {
  put(place, h('p', { class: 'hint' }, 'Measuring: a second or so for a million items…'));
  const health = await api.get(path('collections', name, 'health'), { signal });
  const said = h('div');
  const again = actionButton('Measure again', said, () => show(place, { api, name }, signal), { kind: 'quiet' });
  put(place,
    h('div', { class: `verdict ${health.status}` }, h('strong', {}, VERDICT[health.status]),
      h('p', {}, `Of ${count(health.items, 'item')}, measured `, ago(health.measured_at),
        ` in ${short(health.took_ms)} ms; kept until the collection changes.`),
      health.findings.filter(({ severity }) => severity !== 'ok').map(findingView)),
    said,
    health.items === 0
      ? h('p', { class: 'empty' }, 'It is empty: there is nothing to measure.')
      : h('div', { class: 'plots' }, panels(health)),
    h('div', { class: 'buttons' }, again));
}

function panels(health) {
  return [balance, effective, correlation, equal, occupancy, radius, drift].map((make) => make(health));
}

/** A plot with its sentence and what was found. whats: the findings that are about it. */
function panel(health, heading, meaning, whats, ...plots) {
  const found = health.findings.filter(({ what }) => whats.includes(what));
  return h('section', { class: 'panel' }, h('h3', {}, heading), h('p', {}, meaning), plots, found.map(findingView));
}

function findingView({ severity, what, detail, advice }) {
  const name = { ok: 'fine', warning: 'look at this', bad: 'bad' }[severity];
  return h('p', { class: `finding ${severity}` },
    h('b', {}, `${what.charAt(0).toUpperCase()}${what.slice(1)}: ${name}. `),
    `${detail}.`,
    advice && h('span', { class: 'advice' }, ` What to do: ${advice}.`));
}

function balance(health) {
  const shares = health.balance.ones;
  const plot = barPlot({
    title: 'Share of the items in which each bit is 1',
    x: { label: 'bit' },
    y: { label: 'share of ones', low: 0, high: 1, format: percent },
    series: ['ones'],
    bars: shares.map((share, bit) => ({ name: bit, values: [share], notable: [share < 0.1 || share > 0.9] })),
    marks: [{ y: 0.5, name: 'half' }],
  });
  return panel(health, 'Bit balance',
    'A bit that is 1 for half of the items splits the collection in two. One that is almost ' +
      'always the same tells items apart no more than a coin that always falls on one side.',
    ['balance', 'dead bits', 'few items'],
    plot.element);
}

function effective(health) {
  const { per_bit: bits, effective_bits: worth } = health.entropy;
  const plot = barPlot({
    title: 'Entropy of each bit: 1 tells as much as a bit can, 0 nothing',
    x: { label: 'bit' },
    y: { label: 'entropy', low: 0, high: 1 },
    series: ['entropy'],
    bars: bits.map((value, bit) => ({ name: bit, values: [value], notable: [value < 0.47] })),
  });
  return panel(health, 'Entropy',
    `Together the ${health.bits} bits are worth ${short(worth)} that are even and go their own way. ` +
      'The fewer, the shorter a code could be that finds the same.',
    ['effective bits'],
    plot.element);
}

function correlation(health) {
  const { worst, mean, by_chance: chance } = health.correlation;
  const plot =
    worst.length > 0 &&
    barPlot({
      title: 'The pairs of bits that go together most',
      x: { label: 'pair of bits' },
      y: { label: 'correlation r', low: Math.min(0, ...worst.map(({ r }) => r)), high: 1 },
      series: ['r'],
      bars: worst.map(({ a, b, r }) => ({ name: `${a}, ${b}`, values: [r] })),
      marks: [{ y: mean, name: `mean |r| ${short(mean)}` }],
    });
  return panel(health, 'Correlation',
    `Two bits that always agree say the same thing twice. On average |r| is ${short(mean)}; ` +
      `chance alone would make it ${short(chance)}.`,
    ['correlation'],
    plot && plot.element);
}

function equal(health) {
  const { distinct, sharing, largest_group: largest, largest_code: code } = health.codes;
  const plot = barPlot({
    title: 'Items with a code of their own and items that share one',
    x: { label: '' },
    y: { label: 'items', whole: true },
    series: ['items'],
    bars: [
      { name: 'own code', values: [health.items - sharing] },
      { name: 'shared code', values: [sharing] },
      { name: 'largest group', values: [largest] },
    ],
  });
  return panel(health, 'Equal codes',
    `${number(distinct)} distinct codes for ${count(health.items, 'item')}. No search can tell items with one code ` +
      `apart.`,
    ['equal codes'],
    plot.element,
    code && largest > 1 && h('p', { class: 'hint' }, 'The most frequent code is ', h('code', {}, code), '.'));
}

function occupancy(health) {
  const { chunks, in_use: used, slowdown } = health.buckets;
  const plot = barPlot({
    title: 'Items in the fullest bucket of each part of the code',
    x: { label: 'part of the code' },
    y: { label: 'items', whole: true },
    series: ['fullest bucket', 'with evenly spread codes'],
    bars: chunks.map(({ largest, largest_expected: even }, at) => ({ name: at, values: [largest, even] })),
  });
  return panel(health, 'Occupancy',
    'To search quickly, codes are cut into parts and items that agree in a part lie in one bucket. Full buckets ' +
      `make searches look at more: here ${short(slowdown)} times as many as with evenly spread ` +
      `codes.${used ? '' : ' This collection is so small that searches compare with everything.'}`,
    ['buckets'],
    plot.element);
}

function radius(health) {
  const { steps, queries } = health.radius;
  const plot =
    steps.length > 1 &&
    linePlot({
      title: 'How many other items a search finds within a radius',
      x: { label: 'radius', low: 0, whole: true },
      y: { label: 'items found', log: true },
      series: [
        { name: 'on average', points: steps.map((step) => [step.radius, step.mean]) },
        { name: 'one in twenty finds more than', points: steps.map((step) => [step.radius, step.p95]) },
      ],
    });
  return panel(health, 'Radius',
    `From ${count(queries, 'stored item')} as queries. A useful radius lies where a search finds some tens of items, ` +
      'before the curve climbs to the whole collection. Calibration tells how many of them are right.',
    ['radius'],
    plot && plot.element);
}

function drift(health) {
  const found = health.drift;
  const meaning =
    'The codes that are stored now against those of the items the model was trained on. Above the limit, the items ' +
    'have changed in a way that is no chance: a model trained on them would code them better.';
  if (found === null)
    return panel(health, 'Drift', `${meaning} ${health.no_drift ? `Not measured: ${health.no_drift}.` : ''}`, [
      'drift',
    ]);
  const parts = [
    ['all items', found.all],
    ['newest items', found.recent],
  ].filter(([, one]) => one !== null);
  const scores = barPlot({
    title: 'Difference from the training items, in multiples of what chance allows',
    x: { label: '' },
    y: { label: 'difference / limit' },
    series: ['difference'],
    bars: parts.map(([name, one]) => ({
      name: `${name} (${number(one.items)})`,
      values: [one.score],
      notable: [one.score > 1],
    })),
    marks: [{ y: 1, name: 'limit' }],
  });
  const [whose, latest] = parts.at(-1);
  const shifted = barPlot({
    title: `Share of ones in the bits that changed most: ${whose} against the training items`,
    x: { label: 'bit' },
    y: { label: 'share of ones', low: 0, high: 1, format: percent },
    series: ['now', 'in training'],
    bars: latest.shifted.map(({ bit, now, training }) => ({ name: bit, values: [now, training] })),
  });
  return panel(health, 'Drift', meaning, ['drift'], scores.element, shifted.element);
}
