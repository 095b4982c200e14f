// How what went wrong looks, and what can be done about it.

import { ApiError } from './api.js';
import { h, put } from './dom.js';
import { askKey } from './key.js';

/** What the page itself refuses, with what to do instead. */
export class Refused extends Error {}

/** An error as an alert with the problem's own detail. again: what "Try again" does, where that may help. */
export function problemView(error, again) {
  const known = error instanceof ApiError || error instanceof Refused;
  if (!known) console.error(error);
  const { status = 0, errors = [] } = error;
  const retry = again && (!known || status >= 429 || (status === 0 && error instanceof ApiError)) ? again : null;
  return h(
    'div',
    { class: 'problem', role: 'alert' },
    h('strong', {}, known ? (error.title ?? 'This cannot be done') : 'This page failed'),
    h(
      'p',
      {},
      sentence(
        known
          ? (error.detail ?? error.message)
          : `${error.message}; reload the page, and report it if it happens again`,
      ),
    ),
    errors.length > 1 &&
      h(
        'ul',
        {},
        errors.map((one) => h('li', {}, h('code', {}, one.pointer || '/'), ` ${one.detail}`)),
      ),
    (retry || status === 401 || status === 403) &&
      h(
        'div',
        { class: 'buttons' },
        retry && h('button', { type: 'button', onclick: retry }, 'Try again'),
        (status === 401 || status === 403) &&
          h(
            'button',
            {
              type: 'button',
              onclick: async () => (await askKey(error.detail)) && again?.(),
            },
            'Enter a key',
          ),
      ),
  );
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}

const latest = new WeakMap();

/** Shows in `place` that something is on its way, then what `work` resolves to, or what went wrong.
 *
 * What is aborted leaves the place to whatever came after it. Resolves to whether it went well. */
export async function showing(place, work, again) {
  latest.set(place, work);
  place.setAttribute('aria-busy', 'true');
  try {
    const made = await work();
    if (made !== undefined) put(place, made);
    return true;
  } catch (error) {
    if (error.name !== 'AbortError') put(place, problemView(error, again));
    return false;
  } finally {
    if (latest.get(place) === work) place.removeAttribute('aria-busy');
  }
}
