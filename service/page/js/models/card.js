// One model whole: what it can do, what was measured of it, its card, and another alias for it.

import { path } from '../api.js';
import { field, h, number, put, unique } from '../dom.js';
import { duration } from '../jobs.js';
import { short } from '../scale.js';
import { facts, guarded, table } from '../widgets.js';
import { CAPABILITIES } from './families.js';
import { kindOf } from './words.js';

/** Opens a dialog about `model`. changed: called when it got another alias. */
export function openModel(model, about, signal, changed) {
  const { name, version, metrics, card } = model;
  const heading = unique('model');
  const said = h('div');
  const alias = h('input', {
    type: 'text',
    autocomplete: 'off',
    spellcheck: 'false',
    placeholder: 'staging',
    required: true,
  });
  const alsoCalled = h('form',
    {
      class: 'bar',
      onsubmit: (event) => {
        event.preventDefault();
        guarded(put(said),
          async () => {
            await about.api.put(path('models', name, 'aliases', alias.value), { version }, { signal });
            dialog.close();
            await changed();
          },
          signal);
      },
    },
    field('Another alias for it', alias, `${name}@alias then means version ${version}`),
    h('button', {}, 'Set'));
  const dialog = h('dialog', { class: 'item-dialog wide', 'aria-labelledby': heading, onclose: () => dialog.remove() },
    h('h2', { id: heading }, `${name}:${version}`),
    facts([
      ['Family', model.family],
      ['Codes', `${model.bits} bits`],
      ['Takes', kindOf(model)],
      ['Trained on', metrics.items ? `${number(metrics.items)} items` : '–'],
      metrics.seconds && ['In', duration(metrics.seconds)],
      ['Aliases', model.aliases.join(', ') || 'none'],
    ]),
    h('h3', {}, 'What it can do'),
    h('dl', { class: 'words' },
      model.capabilities.map((one) => h('div', {}, h('dt', {}, one), h('dd', {}, CAPABILITIES[one] ?? '')))),
    h('h3', {}, 'Measured'),
    table(`Metrics of ${name}:${version}`, ['measure', 'value'],
      Object.entries(metrics).map(([key, value]) => [key.replaceAll('_', ' '), plain(value)])),
    h('details', {}, h('summary', {}, 'Model card'), h('pre', { tabindex: 0 }, card)),
    h('p', { class: 'hint' }, 'Fingerprint ', h('code', { class: 'long' }, model.fingerprint)),
    alsoCalled,
    said,
    h('div', { class: 'buttons' },
      h('button', { type: 'button', onclick: () => dialog.close(), autofocus: true }, 'Close'),
      h('a',
        {
          class: 'button',
          href: `#/models?${new URLSearchParams({ view: 'change', model: `${name}:${version}` })}`,
          onclick: () => dialog.close(),
        },
        'Let a collection go over to it')));
  document.body.append(dialog);
  signal.addEventListener('abort', () => dialog.close(), { once: true });
  dialog.showModal();
}

function plain(value) {
  if (typeof value === 'number') return short(value);
  if (value === null) return '–';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
