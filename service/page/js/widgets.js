// What several parts are made of: tabs, a question before something is lost, tables, a list of facts.

import { h, put, unique } from './dom.js';
import { problemView } from './problem.js';

const BESIDE = 60; // of the tab before the open one, where they do not all fit

/** Tabs; each is `[key, text, show]`, where `show(place, signal)` fills its panel each time it is opened.
 *
 * Arrow keys walk. chosen: the key that is open first. onopen: called with the key. */
export function tabs(label, list, { chosen, signal: leaving, onopen = () => {} }) {
  const panelId = unique('panel');
  const panel = h('div', { class: 'tab-panel', id: panelId, role: 'tabpanel', tabindex: 0 });
  let closing = new AbortController();

  const buttons = list.map(([key, text], at) =>
    h('button',
      {
        type: 'button',
        role: 'tab',
        id: unique('tab'),
        'aria-controls': panelId,
        'data-key': key,
        onclick: () => open(at),
        onkeydown: (event) => {
          const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
          const next =
            { Home: 0, End: list.length - 1 }[event.key] ?? (step && (at + step + list.length) % list.length);
          if (next === undefined) return;
          event.preventDefault();
          buttons[next].focus();
          open(next);
        },
      },
      text));

  const bar = h('div', { class: 'tab-list', role: 'tablist', 'aria-label': label }, buttons);

  async function open(at) {
    closing.abort();
    closing = new AbortController();
    const signal = AbortSignal.any([leaving, closing.signal]);
    buttons.forEach((button, place) => {
      button.setAttribute('aria-selected', String(place === at));
      button.tabIndex = place === at ? 0 : -1;
    });
    requestAnimationFrame(() => {
      bar.scrollLeft = buttons[at].offsetLeft - bar.offsetLeft - BESIDE;
    });
    panel.setAttribute('aria-labelledby', buttons[at].id);
    const [key, , show] = list[at];
    onopen(key);
    const place = h('div', { class: 'tab-content' });
    put(panel, place);
    await guarded(place, () => show(place, signal), signal);
  }

  const first = Math.max(
    0,
    list.findIndex(([key]) => key === chosen));
  return { element: h('div', { class: 'tabs' }, bar, panel), opened: open(first) };
}

/** Does `work`, which fills `place`; what goes wrong is shown there, and can be tried again. */
export async function guarded(place, work, signal) {
  place.setAttribute('aria-busy', 'true');
  try {
    await work();
  } catch (error) {
    if (error.name === 'AbortError' || signal?.aborted) return;
    place.append(
      problemView(error, () => {
        put(place);
        guarded(place, work, signal);
      }));
  } finally {
    place.removeAttribute('aria-busy');
  }
}

/** A button that does something on the service: it waits while that lasts, and what goes wrong is shown in `place`. */
export function actionButton(text, place, action, { kind = null } = {}) {
  const button = h('button',
    {
      type: 'button',
      class: kind,
      onclick: async () => {
        button.disabled = true;
        try {
          put(place);
          await action();
        } catch (error) {
          if (error.name !== 'AbortError') put(place, problemView(error));
        } finally {
          button.disabled = false;
        }
      },
    },
    text);
  return button;
}

/** Asks before something is lost; resolves to whether to go on. typed: a text that must be entered to confirm. */
export function confirmed({ title, text, action, typed = null }) {
  return new Promise((resolve) => {
    const heading = unique('ask');
    const entry =
      typed &&
      h('input', {
        type: 'text',
        autocomplete: 'off',
        spellcheck: 'false',
        oninput: () => {
          go.disabled = entry.value !== typed;
        },
      });
    const go = h('button', { value: 'go', class: 'danger', disabled: typed !== null }, action);
    const entryId = unique('field');
    if (entry) entry.id = entryId;
    const dialog = h('dialog',
      {
        class: 'ask',
        'aria-labelledby': heading,
        onclose: () => {
          dialog.remove();
          resolve(dialog.returnValue === 'go');
        },
      },
      h('form', { method: 'dialog' }, h('h2', { id: heading }, title), h('p', {}, text),
        entry && [h('label', { for: entryId }, 'Type ', h('code', {}, typed), ' to confirm'), entry],
        h('div', { class: 'buttons' }, go, h('button', { value: 'keep', class: 'quiet', autofocus: !typed }, 'Keep'))));
    document.body.append(dialog);
    dialog.showModal();
    (entry ?? dialog.querySelector('[value=keep]')).focus();
  });
}

/** A table. names: of its columns. rows: of cells; the first of each names its row. */
export function table(caption, names, rows) {
  return h('div', { class: 'table-place', tabindex: 0, role: 'region', 'aria-label': caption },
    h('table', {},
      h('thead', {},
        h('tr', {}, names.map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {},
        rows.map((row) =>
          h('tr', {}, row.map((cell, at) => h(at ? 'td' : 'th', { scope: at ? null : 'row' }, cell)))))));
}

/** Facts side by side: `[name, value, hint?]`. */
export function facts(list) {
  return h('dl', { class: 'facts' },
    list.filter(Boolean).map(([name, value, hint]) => h('div', { title: hint }, h('dt', {}, name), h('dd', {}, value))),
  );
}

const JUST_NOW = 5;
const UNITS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1],
];

/** "3 minutes ago" of an ISO time; the time itself as a hint. */
export function ago(time) {
  const seconds = Math.max(0, (Date.now() - new Date(time)) / 1000);
  const [unit, size] = UNITS.find(([, least]) => seconds >= least) ?? UNITS.at(-1);
  const many = Math.floor(seconds / size);
  const text = seconds < JUST_NOW ? 'just now' : `${many} ${unit}${many === 1 ? '' : 's'} ago`;
  return h('time', { datetime: time, title: new Date(time).toLocaleString() }, text);
}

/** Bytes as people read them. */
export function bytes(size) {
  const power = Math.min(4, Math.floor(Math.log2(Math.max(size, 1)) / 10));
  return `${Number((size / 1024 ** power).toPrecision(3))} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}
