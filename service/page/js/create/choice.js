// What the three sections share: which model, and whose items.

import { field, h, select } from '../dom.js';

/** `name:version`, as the API takes it. */
export function referenceOf(model) {
  return `${model.name}:${model.version}`;
}

/** A field to choose one of the models. onchange: given the model. */
export function modelField(able, chosen, onchange) {
  const of = new Map(able.map((model) => [referenceOf(model), model]));
  const hint = h('span', {}, familyOf(chosen));
  return field(
    'Model',
    select([...of.keys()], referenceOf(chosen), (reference) => {
      hint.textContent = familyOf(of.get(reference));
      onchange(of.get(reference));
    }),
    hint,
  );
}

function familyOf({ family, bits, input }) {
  return `${family}, ${input.kind}, codes of ${bits} bits`;
}

/** The collections with items that `model` takes; one that it filled comes first. */
export function collectionsFor(model, collections) {
  const fitting = collections.filter((one) => one.items > 0 && one.kind === model.input.kind);
  return fitting.sort((a, b) => Number(isOf(model, b)) - Number(isOf(model, a)));
}

/** Whether the codes of a collection are those of `model`. */
export function isOf(model, collection) {
  return collection.model?.fingerprint === model.fingerprint;
}

/** What is said where no model can do it. */
export function nobody(what, family) {
  return h(
    'p',
    { class: 'empty' },
    `No model here can ${what}. Train one of a family that does, such as `,
    h('code', {}, family),
    ', and it appears here.',
  );
}
