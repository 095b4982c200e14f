// Items as people look at them: pictures, snippets, curves, sounds.

import { path } from './api.js';
import { h, s, unique } from './dom.js';
import { soundView } from './sound.js';

const SNIPPET = 280;
const SMALL = 64;
const LINE = 60;

/** The kind of an input or output of the API and its content. */
export function contentOf(item) {
  for (const kind of ['image', 'text', 'vector', 'audio', 'code', 'id']) {
    if (item?.[kind] !== undefined && item[kind] !== null) return { kind, content: item[kind] };
  }
  return { kind: 'none', content: null };
}

/** The `data:` address of a file in base64, whose first bytes tell what it is. */
export function dataUrl(base64) {
  const types = { iVBOR: 'image/png', '/9j/': 'image/jpeg', ZkxhQ: 'audio/flac' };
  let type = Object.entries(types).find(([start]) => base64.startsWith(start))?.[1];
  if (!type && base64.startsWith('UklGR'))
    type = atob(base64.slice(0, 16)).endsWith('WEBP') ? 'image/webp' : 'audio/wav';
  return `data:${type ?? 'application/octet-stream'};base64,${base64}`;
}

/** An item to look at. item: an input or output of the API, or null where none is kept. name: for screen readers. */
export function itemView(item, name, { whole = false } = {}) {
  const { kind, content } = contentOf(item);
  if (kind === 'image') return picture(content, name);
  if (kind === 'text') return snippet(content, whole);
  if (kind === 'vector') return curve(content, name);
  if (kind === 'audio') return soundView(dataUrl(content), name);
  if (kind === 'code') return h('code', { class: 'item nothing' }, content);
  return h('p', { class: 'item nothing' }, 'no input kept');
}

/** An item, or the `place` that will show it, as a button. A sound has a button of its own, so this one is below it. */
export function choosable(place, kind, attributes) {
  const given = { type: 'button', class: 'choose', ...attributes };
  if (kind !== 'audio') return h('button', given, place);
  return h('div', {}, place, h('button', { ...given, class: 'choose below' }, attributes.title));
}

function picture(base64, name) {
  return h('img', {
    class: 'item picture',
    src: dataUrl(base64),
    alt: name,
    onload: ({ target }) => target.classList.toggle('pixels', target.naturalWidth <= SMALL),
  });
}

function snippet(text, whole) {
  const short = whole || text.length <= SNIPPET ? text : `${text.slice(0, SNIPPET).trimEnd()} …`;
  return h('blockquote', { class: 'item snippet' }, short);
}

/** A vector as a curve around its zero. */
export function curve(vector, name) {
  const most = Math.max(...vector.map(Math.abs), 1e-12);
  const points = vector.map(
    (value, at) => `${(((at + 0.5) * 100) / vector.length).toFixed(2)},${(20 - (value * 19) / most).toFixed(2)}`,
  );
  const title = unique('curve');
  return s(
    'svg',
    { class: 'item curve', viewBox: '0 0 100 40', preserveAspectRatio: 'none', role: 'img', 'aria-labelledby': title },
    s('title', { id: title }, `${name}: ${vector.length} numbers, the largest ${most.toPrecision(3)}`),
    s('line', { x1: 0, x2: 100, y1: 20, y2: 20 }),
    s('polyline', { points: points.join(' ') }),
  );
}

/** A payload in a line: "label 7". */
export function payloadLine(payload) {
  const parts = Object.entries(payload ?? {}).map(([name, value]) =>
    h('span', {}, h('b', {}, name), ` ${shortened(typeof value === 'object' ? JSON.stringify(value) : String(value))}`),
  );
  return parts.length ? h('p', { class: 'payload' }, parts) : null;
}

function shortened(text) {
  return text.length <= LINE ? text : `${text.slice(0, LINE).trimEnd()} …`;
}

const KEPT = 500;

/** Fetches stored items with their inputs, none twice in a row of hundreds. One for each visit of a part. */
export function shelf(api, signal) {
  const kept = new Map();
  return async (collection, id) => {
    const key = `${collection}/${id}`;
    if (!kept.has(key)) {
      if (kept.size >= KEPT) kept.delete(kept.keys().next().value);
      kept.set(key, api.get(path('collections', collection, 'items', id), { signal }));
    }
    try {
      return await kept.get(key);
    } catch (error) {
      kept.delete(key);
      throw error;
    }
  };
}

/** The first items of a collection, with their inputs. */
export async function someItems(api, collection, limit, signal, cursor = null) {
  const found = await api.get(path('collections', collection, 'items', { limit, cursor, include: 'input' }), {
    signal,
  });
  return found.items;
}
