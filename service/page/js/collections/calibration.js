// What a radius means: how many of the items within it belong there, measured by a job and shown as curves.

import { path } from '../api.js';
import { count, field, h, number, put, select } from '../dom.js';
import { jobView } from '../jobs.js';
import { linePlot } from '../plot.js';
import { percent, short } from '../scale.js';
import { ago, facts, guarded, table } from '../widgets.js';
import { newest } from './newest.js';

const TARGET = 0.9;
const WAYS = { labels: 'items with an equal label', augmentation: 'an item and itself, changed' };

export async function show(place, about, signal) {
  const { api, name, collection } = about;
  const said = h('div');
  const found = h('div');
  const label = h('input', { type: 'text', value: 'label', required: true, spellcheck: 'false' });
  const queries = h('input', {
    type: 'number',
    min: 10,
    value: Math.max(10, Math.min(1000, collection.items)),
    required: true,
  });
  const labelField = field('Label field', label, 'of the payload; dots reach into objects');
  const ways = Object.entries(WAYS).filter(([way]) => way === 'labels' || (collection.model && collection.keep_inputs));
  const by = select(ways, 'labels', (way) => {
    labelField.hidden = way !== 'labels';
  });
  const run = h('form',
    {
      class: 'bar',
      onsubmit: (event) => {
        event.preventDefault();
        guarded(put(said), start, signal);
      },
    },
    field('What belongs together', by),
    labelField,
    field('Queries', queries, 'stored items; half make the curve, half check it'),
    h('button', { class: 'primary' }, 'Calibrate'));

  async function start() {
    const request = {
      by: by.value,
      queries: queries.valueAsNumber,
      ...(by.value === 'labels' ? { field: label.value } : {}),
    };
    await follow(await api.post(path('collections', name, 'calibrate'), request, { signal }));
  }

  async function follow(job) {
    const view = jobView(api, job, { signal });
    put(said, view.element);
    if ((await view.done).state === 'succeeded') await latest();
  }

  async function latest() {
    const { calibrated } = await about.refresh();
    put(found,
      calibrated
        ? calibrationView(await api.get(path('collections', name, 'calibration'), { signal }), collection)
        : h(
            'p',
            { class: 'empty' },
            'Not calibrated yet for the model that serves. Pairs of your own that do or do not belong together can ' +
              'be given by ',
            h('code', {}, `POST /collections/${name}/calibrate`),
            '.'));
  }

  put(place,
    h('p', {},
      'A calibration measures, for each radius, how many of the items within it belong there (precision), and how ' +
        'many of those that belong are found (recall). ' +
        'A search can then ask for a precision in place of a radius.'),
    run,
    said,
    found);
  await latest();
  const job = await newest(api, 'calibrate', name, signal);
  if (job && job.state !== 'succeeded') await follow(job);
}

function calibrationView(calibration, collection) {
  const { curve, by, field: label, queries, created_at: made, confidence } = calibration;
  const known = curve.filter(({ precision }) => precision !== null);
  const plot = linePlot({
    title:
      `Precision and recall within each radius; the band is where precision lies with ${percent(confidence)} ` +
      `confidence`,
    x: { label: 'radius', low: 0, whole: true },
    y: { label: 'share', low: 0, high: 1, format: percent },
    series: [
      {
        name: 'precision',
        points: curve.map((step) => [step.radius, step.precision]),
        band: known.map((step) => [step.radius, step.precision_low, step.precision_high]),
      },
      { name: 'recall', points: curve.map((step) => [step.radius, step.recall]) },
      { name: 'precision, checked', points: curve.map((step) => [step.radius, step.held_out.precision]) },
    ],
  });
  const answer = h('p', { class: 'answer-line', 'aria-live': 'polite' });
  const target = h('input', { type: 'range', min: 0.5, max: 0.99, step: 0.01, value: TARGET, oninput: choose });
  const shown = h('output', {});

  function choose() {
    const wanted = target.valueAsNumber;
    target.setAttribute('aria-valuetext', percent(wanted));
    put(shown, percent(wanted));
    const step = bestStep(curve, wanted);
    plot.update({ marks: step ? [{ x: step.radius, name: `radius ${step.radius}` }] : [] });
    put(answer, step ? answerView(step, wanted, collection) : reachView(curve, wanted));
  }

  const element = h('div', {},
    facts([
      ['By', by === 'labels' ? `labels in ${label}` : by],
      ['Queries', number(queries)],
      ['Measured', ago(made)],
      ['Of', count(calibration.items, 'item')],
    ]),
    plot.element,
    h('div', { class: 'target' }, field('Target precision', target), shown),
    answer,
    h('details', {}, h('summary', {}, 'Every radius'),
      table('Precision and recall within each radius',
        ['radius', 'precision', 'at least', 'checked', 'recall', 'results a search'],
        curve.map((step) => [
          number(step.radius),
          ...[step.precision, step.precision_low, step.held_out.precision, step.recall].map(percent),
          short(step.results),
        ]))));
  choose();
  return element;
}

/** The largest radius whose precision is at least `target` for certain, as a search by `target_precision` takes. */
function bestStep(curve, target) {
  return curve.findLast(({ precision_low: least }) => least !== null && least >= target) ?? null;
}

function answerView(step, target, { name }) {
  return [
    `Radius ${step.radius} is the largest that is this precise for certain: a search finds ${short(step.results)} ` +
      `items on average, ` +
      `${percent(step.precision)} of them right, and ${percent(step.recall)} of what is right. `,
    h('code', {}, `POST /search {"collection": "${name}", "target_precision": ${target}, …}`),
    ' takes it.',
  ];
}

function reachView(curve, target) {
  const certain = curve.filter(({ precision_low: least }) => least !== null);
  if (certain.length === 0) return 'No radius found anything: calibrate with more queries.';
  const best = certain.reduce((one, other) => (other.precision_low > one.precision_low ? other : one));
  return (
    `No radius has a precision of ${percent(target)} for certain; the best, radius ${best.radius}, has ` +
    `${percent(best.precision)}, at least ` +
    `${percent(best.precision_low)}. Ask for less, calibrate with more queries, or train a better model.`
  );
}
