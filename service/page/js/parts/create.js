// Create: sample new items, walk from one to another, flip single bits of a code.

import { h, put } from '../dom.js';
import { flipSection } from '../create/flip.js';
import { sampleSection } from '../create/sample.js';
import { walkSection } from '../create/walk.js';
import { shelf } from '../items.js';
import { collectionsWithKinds } from '../stored.js';

export const title = 'Create';

const LEAD =
  'A model that turns items into codes and codes back into items can also make new ones: ' +
  'by chance, between two that are stored, or by changing a code bit by bit.';

export async function show(container, { api, signal }) {
  const { collections, models } = await collectionsWithKinds(api, signal);
  const shared = { api, signal, collections, models, fetched: shelf(api, signal) };
  put(container, h('p', { class: 'lead' }, LEAD));
  for (const [section, capability] of [
    [flipSection, 'decode'],
    [sampleSection, 'sample'],
    [walkSection, 'interpolate'],
  ]) {
    const able = models.filter((model) => model.capabilities.includes(capability));
    const place = h('section', { class: 'creation' });
    container.append(place);
    section(place, { ...shared, able });
  }
}
