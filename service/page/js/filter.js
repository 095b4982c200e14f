// Conditions on payloads, as rows of field, comparison and value.

import { h, put, unique } from './dom.js';

const COMPARISONS = [
  ['$eq', 'is'],
  ['$ne', 'is not'],
  ['$lt', 'is less than'],
  ['$lte', 'is at most'],
  ['$gt', 'is more than'],
  ['$gte', 'is at least'],
  ['$in', 'is one of (a, b, c)'],
  ['$exists', 'is there (true, false)'],
];

/** Rows of conditions that all must hold. onchange: given the filter of the API, or null where there is none.
 *
 * `offer` takes payloads whose fields and values are then proposed. */
export function filterRows(onchange) {
  const known = new Map();
  const fields = h('datalist', { id: unique('fields') });
  const values = h('datalist', { id: unique('values') });
  const rows = h('div', { class: 'conditions' });

  function give() {
    const all = [...rows.children].map(conditionOf).filter(Boolean);
    if (all.length === 0) onchange(null);
    else onchange(all.length === 1 ? all[0] : { $and: all });
  }

  function conditionOf(row) {
    const [field, comparison, value] = [...row.querySelectorAll('input, select')].map((one) => one.value.trim());
    if (!field || !value) return null;
    const seen = [...(known.get(field)?.values() ?? [])];
    const texts = seen.length > 0 && seen.every((one) => typeof one === 'string'); // then "3" is a text too
    const read = (text) => (texts && comparison !== '$exists' ? text : plain(text));
    const given = comparison === '$in' ? value.split(',').map((part) => read(part.trim())) : read(value);
    return { [field]: comparison === '$eq' ? given : { [comparison]: given } };
  }

  function add() {
    const row = h(
      'div',
      { class: 'condition', role: 'group', 'aria-label': 'Condition' },
      h('input', {
        'aria-label': 'Field',
        placeholder: 'field',
        list: fields.id,
        onchange: (event) => {
          propose(event.target.value);
          give();
        },
      }),
      h(
        'select',
        { 'aria-label': 'Comparison', onchange: give },
        COMPARISONS.map(([value, text]) => h('option', { value }, text)),
      ),
      h('input', { 'aria-label': 'Value', placeholder: 'value', list: values.id, onchange: give }),
      h(
        'button',
        {
          type: 'button',
          class: 'quiet',
          'aria-label': 'Remove the condition',
          onclick: () => {
            row.remove();
            give();
          },
        },
        '×',
      ),
    );
    const [field] = known.keys();
    if (field) {
      row.querySelector('input').value = field;
      propose(field);
    }
    rows.append(row);
    row.querySelector('input').focus();
  }

  function propose(field) {
    put(
      values,
      [...(known.get(field) ?? new Map()).keys()].sort().map((value) => h('option', { value })),
    );
  }

  return {
    element: h(
      'div',
      { class: 'filter' },
      fields,
      values,
      rows,
      h('button', { type: 'button', class: 'quiet', onclick: add }, '+ condition'),
    ),
    offer(payloads) {
      for (const payload of payloads) {
        for (const [field, value] of Object.entries(payload ?? {})) {
          if (typeof value === 'object') continue;
          if (!known.has(field)) known.set(field, new Map());
          known.get(field).set(String(value), value);
        }
      }
      put(
        fields,
        [...known.keys()].map((value) => h('option', { value })),
      );
    },
  };
}

/** A value as it is written in JSON where it is, else as the text that it is. */
function plain(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' ? text : value;
  } catch {
    return text;
  }
}
