// Every version of every model: how good it is, what it is called, who uses it; promoted, named or deleted here.

import { path } from '../api.js';
import { h, put, tell } from '../dom.js';
import { actionButton, confirmed, guarded, table } from '../widgets.js';
import { openModel } from './card.js';
import { kindOf, retrievalOf } from './words.js';

const CHAMPION = 'champion';

export async function show(place, about, signal) {
  const [{ models, damaged }, { collections }] = await Promise.all([about.models(), about.collections()]);
  const said = h('div');
  const again = () => guarded(place, () => show(place, about, signal), signal);
  const sorted = models.toSorted((a, b) => a.name.localeCompare(b.name) || b.version - a.version);
  put(place,
    damaged.map(({ name, detail }) =>
      h('div', { class: 'problem' }, h('strong', {}, `${name} is damaged and not used`), h('p', {}, detail))),
    said,
    models.length === 0
      ? h('p', { class: 'empty' }, 'There is no model yet: train one.')
      : table(
          'Models',
          ['model', 'called', 'finds', 'family', 'codes', 'items', 'used by', ''],
          sorted.map((one) =>
            rowOf(one, meantBy(models, one.name) === one, collections, { about, signal, said, again }))),
    h('p', { class: 'hint' },
      'A name without a version means the champion, or the newest version while there is none. ' +
        '“Finds” is the share of right items among the nearest of items held out from training.'));
}

/** The version that the bare name means. */
function meantBy(models, name) {
  const versions = models.filter((one) => one.name === name);
  const newest = versions.reduce((a, b) => (b.version > a.version ? b : a));
  return versions.find(({ aliases }) => aliases.includes(CHAMPION)) ?? newest;
}

function rowOf(one, meant, collections, { about, signal, said, again }) {
  const reference = `${one.name}:${one.version}`;
  const uses = ({ generations }) => generations.some(({ model }) => model?.fingerprint === one.fingerprint);
  const users = collections.filter(uses).map(({ name }) => name);
  return [
    reference,
    [
      meant && h('span', { class: 'chip champion' }, one.name),
      one.aliases.map((alias) => h('span', { class: 'chip' }, `@${alias}`)),
    ],
    retrievalOf(one),
    one.family,
    `${one.bits} bits`,
    kindOf(one),
    users.join(', ') || '–',
    h('div', { class: 'buttons' },
      actionButton('Details', said, async () =>
        openModel(await about.api.get(path('models', reference), { signal }), about, signal, again)),
      !meant &&
        actionButton('Promote', said, async () => {
          await promote(about.api, one, signal);
          await again();
        }),
      actionButton('Delete…', said,
        async () => {
          const text = 'Its weights will be gone. The service refuses while a collection was filled by it.';
          if (!(await confirmed({ title: `Delete ${reference}?`, text, action: 'Delete it' }))) return;
          await about.api.del(path('models', reference), { signal });
          tell(`${reference} is deleted`);
          await again();
        },
        { kind: 'quiet' })),
  ];
}

/** Lets the bare name mean this version. */
export async function promote(api, { name, version }, signal) {
  await api.put(path('models', name, 'aliases', CHAMPION), { version }, { signal });
  tell(`${name} now means version ${version}`);
}
