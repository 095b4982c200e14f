// Snapshots: one file each that holds the collection as it was, with its models.

import { path } from '../api.js';
import { count, field, h, number, put, tell } from '../dom.js';
import { actionButton, ago, bytes, confirmed, guarded, table } from '../widgets.js';

export async function show(place, about, signal) {
  const { api, name } = about;
  const said = h('div');
  const list = h('div');
  const wanted = h('input', {
    type: 'text',
    autocomplete: 'off',
    spellcheck: 'false',
    placeholder: 'of the time, where left out',
  });
  const make = h('form',
    {
      class: 'bar',
      onsubmit: (event) => {
        event.preventDefault();
        guarded(put(said), create, signal);
      },
    },
    field('Name', wanted),
    h('button', { class: 'primary' }, 'Make a snapshot'));

  async function create() {
    put(said, h('p', { class: 'hint' }, 'Writing and verifying…'));
    const made = await api.post(path('collections', name, 'snapshots', { name: wanted.value || null }), undefined, {
      signal,
    });
    put(said, h('p', { class: 'done', role: 'status' }, `${made.name} holds ${count(made.items, 'item')}.`));
    await load();
  }

  async function load() {
    const { snapshots, damaged } = await api.get(path('collections', name, 'snapshots'), { signal });
    put(list, damaged.map((one) => h('p', { class: 'problem' }, `${one.name}: ${one.detail}`)),
      snapshots.length === 0
        ? h('p', { class: 'empty' }, 'There is no snapshot yet.')
        : table('Snapshots', ['name', 'items', 'model', 'size', 'made', ''], snapshots.map(row)));
  }

  function row(one) {
    const where = path('collections', name, 'snapshots', one.name);
    return [
      one.name,
      number(one.items),
      one.model ? `${one.model.name}:${one.model.version}` : '–',
      bytes(one.size),
      ago(one.created_at),
      h('div', { class: 'buttons' }, !api.hasKey && h('a', { class: 'button', href: where, download: '' }, 'Download'),
        actionButton('Restore…', said, async () => {
          const text =
            `The collection becomes what it was with ${count(one.items, 'item')}; what was written since ` +
            `is gone. It serves until that moment.`;
          if (!(await confirmed({ title: `Restore ${one.name}?`, text, action: 'Restore it' }))) return;
          await api.post(path('collections', name, 'restore'), { snapshot: one.name, replace: true }, { signal });
          await about.refresh();
          put(said, h('p', { class: 'done', role: 'status' }, `${name} is as it was in ${one.name}.`));
        }),
        actionButton('Delete…', said,
          async () => {
            if (
              !(await confirmed({
                title: `Delete ${one.name}?`,
                text: 'The file will be gone; the collection stays as it is.',
                action: 'Delete it',
              }))
            )
              return;
            await api.del(where, { signal });
            tell(`${one.name} is deleted`);
            await load();
          },
          { kind: 'quiet' })),
    ];
  }

  put(place,
    h('p', {},
      'A snapshot is one file with the items, codes and models of this moment. It is verified before it gets its ' +
        'name, ' +
        'and stays when the collection is deleted.'),
    make,
    said,
    list);
  await load();
}
