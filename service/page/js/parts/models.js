// Models: what is there, what each can do, training a new one, and letting a collection go over to it.

import { path } from '../api.js';
import { h, put } from '../dom.js';
import * as change from '../models/change.js';
import * as families from '../models/families.js';
import * as jobs from '../models/jobs.js';
import * as train from '../models/train.js';
import * as versions from '../models/versions.js';
import { tabs } from '../widgets.js';

export const title = 'Models';

const LEAD =
  'A model turns items into codes. Train one on your own items, see how well its codes find, and let a collection ' +
  'go over to it while it goes on answering searches; what served before is one click away.';

const PARTS = [
  ['versions', 'Models', versions],
  ['train', 'Train', train],
  ['change', 'Change a collection’s model', change],
  ['families', 'Families', families],
  ['jobs', 'Jobs', jobs],
];

export async function show(container, { api, signal, query }) {
  const about = {
    api,
    query,
    models: () => api.get(path('models'), { signal }),
    collections: () => api.get(path('collections'), { signal }),
  };
  const bar = tabs('Views of the models',
    PARTS.map(([key, text, part]) => [key, text, (panel, inner) => part.show(panel, about, inner)]),
    {
      chosen: query.get('view'),
      signal,
      onopen: (key) => {
        const kept = key === query.get('view') ? query : [];
        history.replaceState(null, '', `#/models?${new URLSearchParams({ ...Object.fromEntries(kept), view: key })}`);
      },
    });
  put(container, h('p', { class: 'lead' }, LEAD), bar.element);
  await bar.opened;
}
