// Another model for a collection: encoded anew beside the searches, tried against the one that serves, and let serve.

import { path } from '../api.js';
import { field, h, number, put, select, tell } from '../dom.js';
import { ENDED, jobView } from '../jobs.js';
import { actionButton, facts, guarded } from '../widgets.js';
import { gateFields, reportView } from './gate.js';
import { kindOf } from './words.js';

export async function show(place, about, signal) {
  const [{ models }, { collections }] = await Promise.all([about.models(), about.collections()]);
  const able = collections.filter(({ model }) => model !== null);
  if (able.length === 0) {
    put(place,
      h('p', { class: 'empty' },
        'No collection has a model. One of ready-made codes cannot change: its codes were made elsewhere.'));
    return;
  }
  const wanted = models.find(({ name, version }) => `${name}:${version}` === about.query.get('model'));
  const fits = wanted && able.find((one) => kindOfModel(models, one.model)?.input.kind === wanted.input.kind);
  const first = able.find(({ name }) => name === about.query.get('collection')) ?? fits ?? able[0];
  const inner = h('div');
  let closing = new AbortController();
  const open = (name) => {
    closing.abort();
    closing = new AbortController();
    const now = AbortSignal.any([signal, closing.signal]);
    return guarded(put(inner), () => collectionView(inner, name, models, wanted, about, now), now);
  };
  put(place,
    h('p', {},
      'The kept inputs are encoded by the new model while the collection goes on answering. Then recent searches ' +
        'are tried on both; ' +
        'only if the new codes pass the gate do they serve. The old ones are kept, so that you can go back at once.'),
    h('div', { class: 'bar' },
      field('Collection',
        select(able.map(({ name }) => name), first.name, open))),
    inner);
  await open(first.name);
}

function kindOfModel(models, key) {
  return models.find(({ fingerprint }) => fingerprint === key.fingerprint);
}

async function collectionView(place, name, models, wanted, about, signal) {
  const { api } = about;
  const collection = await api.get(path('collections', name), { signal });
  const serving = kindOfModel(models, collection.model);
  const others = models.filter(
    ({ fingerprint, input }) =>
      fingerprint !== collection.model.fingerprint && (!serving || input.kind === serving.input.kind));
  const said = h('div');
  const followed = h('div');
  const state = h('div', {}, stateView(collection));
  const again = (done) => async () => {
    put(state, stateView(await done()));
    await renew();
  };

  /** Shows the collection as it has become, and leaves what was said of the job. */
  async function renew() {
    const now = await api.get(path('collections', name), { signal });
    put(state, stateView(now));
    put(actions, actionsFor(now));
  }

  const actionsFor = ({ generations }) => {
    const other = generations.find(({ state: how }) => how === 'kept' || how === 'ready');
    if (!other) return null;
    const reference = `${other.model.name}:${other.model.version}`;
    return [
      other.state === 'kept' &&
        actionButton(`Roll back to ${reference}`, said,
          again(async () => {
            const now = await api.post(path('collections', name, 'rollback'), undefined, { signal });
            tell(`${name} is served by ${reference} again`);
            put(said,
              h('p', { class: 'done', role: 'status' }, `${reference} serves again; a second roll-back undoes this.`));
            return now;
          })),
      other.state === 'ready' &&
        actionButton(`Let ${reference} serve`, said,
          again(async () => {
            const now = await api.post(path('collections', name, 'flip'), undefined, { signal });
            put(said, h('p', { class: 'done', role: 'status' }, `${reference} serves.`));
            return now;
          }),
          { kind: 'primary' }),
      actionButton(`Give up the codes of ${reference}`, said,
        again(() => api.del(path('collections', name, 'standby'), { signal })),
        { kind: 'quiet' }),
    ];
  };
  const actions = h('div', { class: 'buttons' }, actionsFor(collection));

  async function follow(job, gate) {
    const view = jobView(api, job, { signal });
    put(followed, view.element);
    const ended = await view.done;
    if (ended.result?.report) followed.append(reportView(ended.result.report, gate));
    if (ended.state === 'succeeded') {
      const { model, flipped } = ended.result;
      followed.append(
        h('p', { class: 'done', role: 'status' },
          `${model.name}:${model.version} ${flipped ? 'passed and serves' : 'passed and is ready'}.`));
    }
    await renew();
  }

  put(place, state, actions, said,
    others.length === 0
      ? h('p', { class: 'empty' }, 'There is no other model for items of this kind: train one first.')
      : changeForm(
          others,
          wanted,
          async (request, gate) =>
            follow(await api.post(path('collections', name, 'reencode'), request, { signal }), gate),
          signal,
          followed),
    followed);
  const { jobs } = await api.get(path('jobs'), { signal });
  const running = jobs.find(
    ({ kind, subject, state: how }) => kind === 'reencode' && subject.collection === name && !ENDED.has(how));
  if (running) await follow(running, {});
}

function stateView({ items, model, generations }) {
  const other = generations.find(({ state }) => state !== 'serving');
  return facts([
    ['Serves', `${model.name}:${model.version}`],
    ['Items', number(items)],
    other && [
      { kept: 'Kept, to go back to', ready: 'Ready to serve', filling: 'Being filled' }[other.state],
      `${other.model.name}:${other.model.version}`,
    ],
  ]);
}

function changeForm(others, wanted, send, signal, followed) {
  const references = others.map((one) => [
    `${one.name}:${one.version}`,
    `${one.name}:${one.version} · ${one.family}, ${one.bits} bits, ${kindOf(one)}`,
  ]);
  const model = select(references,
    wanted && others.includes(wanted) ? `${wanted.name}:${wanted.version}` : references[0][0]);
  const gate = gateFields();
  const flip = h('input', { type: 'checkbox', checked: true });
  return h('form',
    {
      class: 'train',
      onsubmit: (event) => {
        event.preventDefault();
        const limits = gate.values();
        guarded(put(followed), () => send({ model: model.value, gate: limits, flip: flip.checked }, limits), signal);
      },
    },
    h('div', { class: 'wide-field' }, field('New model', model)),
    gate.element,
    h('label', { class: 'check' }, flip, ' let it serve as soon as it passes'),
    h('div', { class: 'buttons' }, h('button', { class: 'primary' }, 'Re-encode')));
}
