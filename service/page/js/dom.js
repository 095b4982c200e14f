// Elements from data. Text goes in as text, never as HTML, so nothing that is stored can become part of the page.

const SVG = 'http://www.w3.org/2000/svg';
const PROPERTIES = new Set(['value', 'checked', 'selected', 'indeterminate', 'disabled', 'open', 'hidden', 'htmlFor']);

/** An element. `onclick` and its like are listeners; `style` is an object; false, null and undefined are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  element.append(...flat(children));
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'style')
      for (const [rule, given] of Object.entries(value)) element.style.setProperty(rule, given);
    else if (PROPERTIES.has(name) && name in element) element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Puts `children` in the place of whatever `element` holds; returns `element`. */
export function put(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

let last = 0;

/** An id that no other element of the page has. */
export function unique(prefix = 'e') {
  last += 1;
  return `${prefix}-${last}`;
}

/** A control with its label above it and, where given, a hint below that screen readers read with it. */
export function field(label, control, hint) {
  control.id ||= unique('field');
  const note = hint ? h('small', { id: unique('hint'), class: 'hint' }, hint) : null;
  if (note) control.setAttribute('aria-describedby', note.id);
  return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, note);
}

/** A `select`. options: `[value, text]` pairs, or texts that are values too. */
export function select(options, chosen, onchange) {
  const list = options.map((one) => (Array.isArray(one) ? one : [one, one]));
  return h(
    'select',
    { onchange: (event) => onchange?.(event.target.value) },
    list.map(([value, text]) => h('option', { value, selected: value === chosen }, text)),
  );
}

/** Says a sentence to screen readers without moving the focus. */
export function tell(sentence) {
  document.getElementById('told').textContent = sentence;
}

/** 1234567 as "1,234,567"; at most `digits` places behind the point. */
export function number(value, digits = 0) {
  return value.toLocaleString('en', { maximumFractionDigits: digits });
}

/** "1 item", "2 items". */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** Calls `action` when `ms` have passed without another call. */
export function later(action, ms = 250) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), ms);
  };
}
