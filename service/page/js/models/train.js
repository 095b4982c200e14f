// Training a model from the page: what to learn from and how, progress as it comes, and what came of it.

import { path } from '../api.js';
import { field, h, number, put, select } from '../dom.js';
import { ENDED, duration, jobView } from '../jobs.js';
import { actionButton, facts, guarded } from '../widgets.js';
import { paramFields } from './params.js';
import { trainingPlots } from './progress.js';
import { promote } from './versions.js';
import { retrievalOf } from './words.js';

/** The data sets that the service brings along. */
export const BUILTIN = {
  digits: '1,797 handwritten digits',
  'python-docs': 'the documentation of Python',
  lines: 'pictures of lines',
  spiral: 'vectors on a spiral',
  tones: 'sounds',
};
const WIDTHS = ['auto', 16, 32, 64, 128, 256, 512];
const USUAL = { family: 'binary-autoencoder', bits: '64', name: 'my-hash' };
const SHOWN_ELSEWHERE = ['epochs', 'seed', 'device'];

export async function show(place, about, signal) {
  const { api, query } = about;
  const [known, { collections }, { jobs }] = await Promise.all([
    api.get(path('families'), { signal }),
    about.collections(),
    api.get(path('jobs'), { signal }),
  ]);
  const said = h('div', { class: 'training' });
  put(place,
    h('p', {},
      'Training learns from the items alone and runs beside the searches. The defaults are good; how well the codes ' +
        'find is measured on items held out.'),
    trainForm(
      known,
      collections,
      query,
      async (request) => {
        await follow(said, about, await api.post(path('train'), request, { signal }), signal);
      },
      signal,
      said),
    said);
  const running = jobs.find(({ kind, state }) => kind === 'train' && !ENDED.has(state));
  if (running) await follow(said, about, running, signal);
}

function trainForm(known, collections, query, send, signal, said) {
  const name = h('input', {
    type: 'text',
    value: USUAL.name,
    required: true,
    pattern: '[a-z0-9][a-z0-9_\\-]{0,62}',
    spellcheck: 'false',
    autocomplete: 'off',
  });
  const sources = collections.filter(({ keep_inputs: kept, model, items }) => kept && model && items > 0);
  const data = h('select', {},
    h('optgroup', { label: 'Collections' },
      sources.map((one) => h('option', { value: `collection ${one.name}` }, `${one.name}, ${number(one.items)} items`)),
    ),
    h('optgroup', { label: 'Built in' },
      Object.entries(BUILTIN).map(([key, text]) => h('option', { value: `dataset ${key}` }, `${key}: ${text}`))));
  const family = select(known.families.map((one) => one.name), query.get('family') ?? USUAL.family, chosen);
  const summary = h('p', { class: 'hint family-says', 'aria-live': 'polite' });
  const bits = select(WIDTHS.map((one) => [String(one), one === 'auto' ? 'chosen from the data' : `${one} bits`]),
    USUAL.bits);
  const epochs = h('input', { type: 'number', min: 1, max: 100_000, placeholder: 'by the size of the data' });
  const seed = h('input', { type: 'number', min: 0, value: 0, required: true });
  const labels = h('input', { type: 'checkbox' });
  const own = h('div');
  const run = paramFields(known.training, { skip: SHOWN_ELSEWHERE });
  const input = paramFields(known.input);
  let params = { values: () => ({}) };

  function chosen(wanted) {
    const one = known.families.find((other) => other.name === wanted) ?? known.families[0];
    put(summary, one.summary, h('br'), `Can: ${one.capabilities.join(', ')}.`);
    params = paramFields(one.params);
    put(own,
      Object.keys(one.params.properties).length
        ? params.element
        : h('p', { class: 'hint' }, 'This family has no parameters.'));
    labels.disabled = !one.supervised;
    labels.checked &&= one.supervised;
  }

  function request() {
    const [kind, source] = data.value.split(' ');
    return {
      name: name.value,
      family: family.value,
      bits: bits.value === 'auto' ? 'auto' : Number(bits.value),
      data: { [kind]: source },
      seed: seed.valueAsNumber,
      params: {
        ...run.values(),
        ...input.values(),
        ...params.values(),
        ...(epochs.value ? { epochs: epochs.valueAsNumber } : {}),
      },
      ...(labels.checked ? { labels: true } : {}),
    };
  }

  chosen(family.value);
  return h('form',
    {
      class: 'train',
      onsubmit: (event) => {
        event.preventDefault();
        guarded(put(said), () => send(request()), signal);
      },
    },
    h('div', { class: 'fields' }, field('Name', name, 'of a model that is there: it gets a new version'),
      field('Learn from', data),
      h('div', {}, field('Family', family), summary),
      field('Codes', bits),
      field('Epochs', epochs, 'passes over the data'),
      field('Seed', seed, 'the same gives the same model')),
    h('label', { class: 'check' }, labels, ' learn from the labels of the items as well'),
    h('details', {}, h('summary', {}, 'All parameters'), h('h3', {}, 'Of the family'), own, h('h3', {}, 'Of the run'),
      run.element,
      h('h3', {}, 'Of the preprocessing'),
      input.element),
    h('div', { class: 'buttons' }, h('button', { class: 'primary' }, 'Train')));
}

async function follow(said, about, job, signal) {
  const plots = trainingPlots();
  const outcome = h('div');
  const view = jobView(about.api, job, { signal, onstate: ({ progress }) => plots.add(progress) });
  put(said, view.element, plots.element, outcome);
  const ended = await view.done;
  if (ended.state === 'succeeded') put(outcome, outcomeView(ended.result, about, signal));
}

function outcomeView({ model, metrics }, { api }, signal) {
  const reference = `${model.name}:${model.version}`;
  const said = h('div');
  const champion = actionButton(`Promote: ${model.name} means this version`, said, async () => {
    await promote(api, model, signal);
    put(said, h('p', { class: 'done', role: 'status' }, `${model.name} now means version ${model.version}.`));
  });
  return h('section', { class: 'outcome' }, h('h3', {}, `${reference} is there`),
    facts([
      ['Finds', retrievalOf({ metrics })],
      ['Epochs', `${metrics.epochs_run ?? '–'}, kept: ${metrics.best_epoch ?? '–'}`],
      ['Items', number(metrics.items ?? 0)],
      metrics.seconds && ['In', duration(metrics.seconds)],
    ]),
    metrics.bits_chosen && h('p', {}, `${metrics.bits_chosen.why}.`),
    h('div', { class: 'buttons' }, champion,
      h('a', { class: 'button', href: `#/models?${new URLSearchParams({ view: 'change', model: reference })}` },
        'Let a collection go over to it'),
      h('a', { class: 'button', href: '#/models?view=versions' }, 'All models')),
    said);
}
