// Fields for the parameters of a family, made from the JSON schema that the service gives.

import { field, h } from '../dom.js';

/** Fields for what `schema` describes.
 *
 * Returns `{element, values()}`: what was filled in, by name; the rest has its default. */
export function paramFields(schema, { skip = [] } = {}) {
  const made = Object.entries(schema.properties)
    .filter(([name]) => !skip.includes(name))
    .map(([name, property]) => {
      const shape = shapeOf(property);
      const control = controlOf(shape, property.default);
      const hint = [
        property.description,
        property.default === null || property.default === undefined
          ? null
          : `default ${JSON.stringify(property.default)}`,
      ];
      return {
        name,
        read: () => readOf(shape, control),
        element: field(name.replaceAll('_', ' '), control, hint.filter(Boolean).join('; ')),
      };
    });
  return {
    element: h('div', { class: 'params' }, made.map(({ element }) => element)),
    values: () =>
      Object.fromEntries(made.map(({ name, read }) => [name, read()]).filter(([, value]) => value !== undefined)),
  };
}

/** What a property is, where it may also be null. */
function shapeOf(property) {
  return property.anyOf?.find(({ type }) => type !== 'null') ?? property;
}

function controlOf(shape, normal) {
  const choices = shape.enum ?? (shape.type === 'boolean' ? ['true', 'false'] : null);
  if (choices) {
    return h('select', {},
      h('option', { value: '' },
        normal === null || normal === undefined ? 'as the family likes' : `${normal} (default)`),
      choices.map((one) => h('option', { value: one }, one)));
  }
  const numeric = shape.type === 'integer' || shape.type === 'number';
  return h('input', {
    type: numeric ? 'number' : 'text',
    step: shape.type === 'integer' ? 1 : 'any',
    autocomplete: 'off',
    min: numeric ? (shape.minimum ?? null) : null,
    max: numeric ? (shape.maximum ?? null) : null,
    placeholder: normal === null || normal === undefined ? '' : JSON.stringify(normal),
  });
}

function readOf(shape, control) {
  if (control.value === '') return undefined;
  if (shape.type === 'integer' || shape.type === 'number') return control.valueAsNumber;
  if (shape.type === 'boolean') return control.value === 'true';
  if (shape.type === 'array') return control.value.replace(/[[\]]/g, '').split(',').map(Number);
  return control.value;
}
