// Where a picture is damaged: drawn over, made noisy, masked.

import { changes } from './changes.js';
import { field, h, put, unique } from './dom.js';
import { dataUrl } from './items.js';
import { addNoise } from './noise.js';
import { pad } from './pad.js';

const MOST_SIDE = 256;

/** See `editorFor`. */
export function pictureEditor(onchange) {
  const place = h('div', { class: 'editor' });
  const name = unique('tool');
  let canvas = null;
  let image = null;
  let seed = 1;
  let size = 1;

  const tools = [
    ['light', 'light pen', { on: 'picture', colour: '#fff' }],
    ['dark', 'dark pen', { on: 'picture', colour: '#000' }],
    ['mask', 'mask: missing', { on: 'mask' }],
  ];
  const noise = h('input', { type: 'range', min: 0.05, max: 0.6, step: 0.05, value: 0.3 });
  const controls = h(
    'div',
    { class: 'controls' },
    h(
      'fieldset',
      { class: 'options' },
      h('legend', {}, 'A stroke is a'),
      tools.map(([value, text, tool], at) =>
        h(
          'label',
          {},
          h('input', {
            type: 'radio',
            name,
            value,
            checked: at === 0,
            onchange: () => Object.assign(canvas.tool, tool),
          }),
          ` ${text}`,
        ),
      ),
    ),
    field(
      'Width of the stroke',
      h('input', {
        type: 'range',
        min: 1,
        max: 8,
        step: 1,
        value: 1,
        oninput: ({ target }) => {
          size = Number(target.value);
          canvas.tool.size = strokeOf(size);
        },
      }),
    ),
    field('Strength of the noise', noise),
    changes(onchange, ['Add noise', makeNoisy], ['Start over', begin]),
  );

  function strokeOf(chosen) {
    return Math.max(1, Math.round((chosen * Math.max(canvas.picture.width, canvas.picture.height)) / 28));
  }

  function makeNoisy() {
    addNoise(canvas.picture, Number(noise.value), seed);
    seed += 1;
  }

  function begin() {
    canvas.load(image);
    seed = 1;
  }

  return {
    element: place,
    async load(input) {
      image = h('img', { src: dataUrl(input.image), alt: '' });
      await image.decode();
      const scale = Math.min(1, MOST_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
      const tool = canvas?.tool;
      canvas = pad({
        width: Math.round(image.naturalWidth * scale),
        height: Math.round(image.naturalHeight * scale),
        name: 'The item, to draw over',
        ondraw: onchange,
      });
      Object.assign(canvas.tool, tool ?? tools[0][2], { size: strokeOf(size) });
      begin();
      put(place, canvas.element, controls);
    },
    example: (masks) => (masks ? canvas.band(0.25, 0.625) : makeNoisy()),
    input: () => ({ image: canvas.png() }),
    mask: () => canvas.maskRows(),
  };
}
