// Search: give an example, see its code, and the stored items whose codes are near.

import { path } from '../api.js';
import { bitPicture } from '../bits.js';
import { count, field, h, put, select, tell } from '../dom.js';
import { filterRows } from '../filter.js';
import { distanceWords, hitCards, planLine } from '../hits.js';
import { inputWidget } from '../inputs.js';
import { contentOf, itemView, shelf } from '../items.js';
import { problemView, showing } from '../problem.js';
import { countsWithin, radiusSlider } from '../radius.js';
import { collectionsWithKinds, firstOf, storedStrip } from '../stored.js';

export const title = 'Search';

const PAGE = 12;
const LEAD =
  'Hammingbird gives every item a code, a short row of bits, made so that similar items get similar codes. ' +
  'Choose, draw or write an example: the items whose codes differ from its code in the fewest bits come first.';

export async function show(container, { api, signal, query }) {
  const { collections } = await collectionsWithKinds(api, signal);
  put(container, h('p', { class: 'lead' }, LEAD));
  if (collections.length === 0) {
    container.append(
      h(
        'p',
        { class: 'empty' },
        'There is no collection yet. ',
        h('code', {}, 'hammingbird demo'),
        ' makes two to begin with; ',
        h('a', { href: '/docs' }, 'POST /ingest'),
        ' stores your own items.',
      ),
    );
    return;
  }
  const place = h('div', { class: 'split' });
  const open = (name) => openCollection(place, { api, signal, query }, collections, firstOf(collections, name));
  container.append(place);
  await open(query.get('collection'));
}

async function openCollection(place, { api, signal: leaving, query }, collections, collection) {
  const closing = new AbortController();
  const signal = AbortSignal.any([leaving, closing.signal]);
  const fetched = shelf(api, signal);
  const of = (id) => fetched(collection.name, id);
  const answer = h('div', { class: 'answer' });
  const state = { input: null, shown: null, radius: null, k: PAGE, filter: null, rerank: 'none' };
  let asking = new AbortController();

  const strip = h('div', { class: 'strip-place' });
  const filter = filterRows((given) => {
    state.filter = given;
    ask();
  });
  const slider = radiusSlider({
    bits: collection.bits,
    onchange: (radius) => {
      state.radius = radius;
      ask();
    },
  });
  const parts = { said: h('div'), hits: h('div'), plan: h('div') };
  put(answer, parts.said, slider.element, parts.hits, parts.plan);

  let unmark = () => {};
  function give(input, shown) {
    Object.assign(state, { input, shown, k: PAGE });
    ask();
  }

  async function ask() {
    asking.abort();
    asking = new AbortController();
    const now = AbortSignal.any([signal, asking.signal]);
    if (state.input === null) return;
    const request = requestOf(collection.name, state);
    const work = async () => {
      const reply = await api.post(path('search'), request, { signal: now });
      filter.offer(reply.hits.map((hit) => hit.payload));
      put(parts.said, whatWasAsked(state.shown, reply.code, collection));
      put(parts.plan, planLine(reply), requestView(request));
      const nearest = reply.hits.length ? `; nearest: ${distanceWords(reply.hits[0].distance)}` : '';
      tell(count(reply.hits.length, 'hit') + nearest);
      showCounts(reply, now);
      return hitsView(reply);
    };
    const well = await showing(parts.hits, work, ask);
    if (!well && !now.aborted) put(parts.plan, requestView(request));
  }

  function hitsView(reply) {
    if (reply.hits.length === 0) {
      return h(
        'p',
        { class: 'empty' },
        state.filter === null
          ? 'Nothing lies within this radius. Move the slider to the right.'
          : 'Nothing within this radius meets the filter. Move the slider to the right, or take a condition away.',
      );
    }
    const more = reply.hits.length === state.k && reply.hits.length < collection.items;
    return [
      hitCards(reply.hits, { code: reply.code, of, choose: (id) => chosen(id) }),
      more &&
        h(
          'button',
          {
            type: 'button',
            class: 'more',
            onclick: () => {
              state.k += 2 * PAGE;
              ask();
            },
          },
          'More',
        ),
    ];
  }

  async function chosen(id) {
    unmark();
    const item = await of(id);
    give({ id }, item.input ?? { code: item.code });
    answer.scrollIntoView({ block: 'nearest' });
  }

  async function showCounts(reply, now) {
    try {
      const at = state.radius ?? reply.hits.at(-1)?.distance ?? 0;
      const asked = {
        ...collection,
        collection: collection.name,
        code: reply.code,
        filter: state.filter ?? undefined,
        at,
      };
      slider.show(await countsWithin(api, asked, now), at);
    } catch (error) {
      if (error.name !== 'AbortError') parts.said.append(problemView(error));
    }
  }

  put(
    place,
    h(
      'form',
      { class: 'query', onsubmit: (event) => event.preventDefault() },
      field(
        'Search in',
        select(
          collections.map((one) => [one.name, one.name]),
          collection.name,
          (name) => {
            closing.abort();
            history.replaceState(null, '', `#/search?${new URLSearchParams({ collection: name })}`);
            openCollection(place, { api, signal: leaving, query }, collections, firstOf(collections, name));
          },
        ),
        about(collection),
      ),
      h('h2', {}, 'Search with a stored item'),
      strip,
      h('h2', {}, collection.kind === 'image' ? 'or draw one' : 'or your own'),
      inputWidget({
        kind: collection.kind,
        signal,
        onchange: (input) => {
          if (input) {
            unmark();
            give(input, input);
          }
        },
      }),
      h('details', {}, h('summary', {}, 'Filter'), filter.element),
      h(
        'details',
        {},
        h('summary', {}, 'Order'),
        field(
          'Among the hits',
          select(
            [
              ['none', 'by bits that differ'],
              ['soft', 'by how sure the query’s bits are'],
              ...(collection.keep_inputs && collection.model ? [['exact', 'by the true distance of the items']] : []),
            ],
            'none',
            (value) => {
              state.rerank = value;
              ask();
            },
          ),
        ),
      ),
    ),
    answer,
  );
  await showing(strip, async () => {
    const made = await storedStrip(api, collection, {
      signal,
      label: 'Stored items',
      at: 0,
      choose: (item) => give({ id: item.id }, item.input ?? { code: item.code }),
    });
    unmark = made.unmark;
    return made.empty ? h('p', { class: 'empty' }, 'This collection is empty.') : made.element;
  });
}

function about({ items, bits, model }) {
  const made = model ? ` by the model ${model.name}:${model.version}` : ', ready-made';
  return `${count(items, 'item')}, codes of ${bits} bits${made}`;
}

function requestOf(collection, { input, radius, k, filter, rerank }) {
  const request = { collection, query: input, k, include: ['payload', 'code'] };
  if (radius !== null) request.radius = radius;
  if (filter !== null) request.filter = filter;
  if (rerank !== 'none') request.rerank = rerank;
  return request;
}

function whatWasAsked(shown, code, { bits }) {
  return h(
    'div',
    { class: 'asked' },
    h('figure', {}, itemView(shown, 'the example'), h('figcaption', {}, 'the example')),
    h('span', { class: 'arrow', 'aria-hidden': 'true' }, '→'),
    h('figure', {}, bitPicture(code), h('figcaption', {}, `its code, ${bits} bits`)),
  );
}

function requestView(request) {
  const { kind, content } = contentOf(request.query);
  const short = typeof content === 'string' && content.length > 80 ? `${content.slice(0, 60)}…` : content;
  const shown = { ...request, query: { [kind]: Array.isArray(short) ? [...short.slice(0, 4), '…'] : short } };
  return h(
    'details',
    {},
    h('summary', {}, 'The request'),
    h('pre', {}, `POST /search\n${JSON.stringify(shown, null, 2)}`),
  );
}
