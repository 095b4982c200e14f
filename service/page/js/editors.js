// Where an item is damaged: made noisy, cut, masked. One editor for each kind of item.

import { changes } from './changes.js';
import { field, h, put } from './dom.js';
import { chooser, bytes64, numbers } from './inputs.js';
import { itemView } from './items.js';
import { normals } from './noise.js';
import { pictureEditor } from './picture-editor.js';
import { Refused } from './problem.js';

/** An editor for items of a kind. onchange: called when the item or the mask has changed.
 *
 * It has an `element`, `load(input)` to begin with an item, `example(masks)` to damage it so that there is something to
 * see, by a mask where `masks` says that one can be used, `input()` with what has become of it, and `mask()`, null
 * where nothing is masked. */
export function editorFor(kind, onchange) {
  return { image: pictureEditor, vector: vectorEditor, text: textEditor, audio: soundEditor }[kind](onchange);
}

function vectorEditor(onchange) {
  let given = [];
  let seed = 1;
  const shown = h('div');
  const fault = h('p', { class: 'fault', role: 'alert' });
  const area = h('textarea', { rows: 5, 'aria-label': 'The numbers', spellcheck: false, onchange: () => changed() });
  const missing = h('input', { placeholder: '0-3, 7', onchange: () => changed() });

  function values() {
    return numbers(area.value);
  }
  function changed() {
    try {
      fault.textContent = '';
      put(shown, itemView({ vector: values() }, 'the damaged vector'));
      mask();
    } catch (error) {
      fault.textContent = error.message;
      return;
    }
    onchange();
  }
  function write(vector) {
    area.value = vector.map((value) => Number(value.toPrecision(6))).join(', ');
    put(shown, itemView({ vector }, 'the damaged vector'));
  }
  function makeNoisy() {
    const vector = values();
    const mean = vector.reduce((sum, value) => sum + value, 0) / vector.length;
    const spread = Math.sqrt(vector.reduce((sum, value) => sum + (value - mean) ** 2, 0) / vector.length);
    const next = normals(seed);
    seed += 1;
    write(vector.map((value) => value + 0.3 * spread * next()));
  }
  function mask() {
    if (!missing.value.trim()) return null;
    const row = values().map(() => 0);
    for (const part of missing.value.split(',')) {
      const [, from, to] = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(part) ?? [];
      const end = Number(to ?? from);
      if (from === undefined || end >= row.length) {
        throw new Refused(`"${part.trim()}" names no places from 0 to ${row.length - 1}; write 0-3, 7`);
      }
      row.fill(1, Number(from), end + 1);
    }
    return row;
  }

  return {
    element: h(
      'div',
      { class: 'editor' },
      shown,
      area,
      fault,
      field('Missing places', missing, 'counted from 0; they are filled in'),
      changes(onchange, ['Add noise', makeNoisy], ['Start over', () => { write(given); missing.value = ''; }]),
    ),
    async load(input) {
      given = input.vector;
      write(given);
    },
    example: () => makeNoisy(),
    input: () => ({ vector: values() }),
    mask,
  };
}

function textEditor(onchange) {
  let given = '';
  const area = h('textarea', { rows: 8, 'aria-label': 'The text', onchange });
  function leaveOut() {
    area.value = area.value
      .split(/\s+/)
      .filter((_, place) => place % 3 !== 2)
      .join(' ');
  }
  return {
    element: h(
      'div',
      { class: 'editor' },
      area,
      changes(onchange, ['Leave out a third of the words', leaveOut], ['Start over', () => (area.value = given)]),
    ),
    async load(input) {
      given = area.value = input.text;
    },
    example: leaveOut,
    input: () => ({ text: area.value }),
    mask: () => null,
  };
}

function soundEditor(onchange) {
  let audio = null;
  const shown = h('div');
  const bounds = ['from', 'to'].map((name) =>
    h('input', { type: 'number', min: 0, step: 0.05, 'aria-label': `missing ${name}, in seconds`, onchange }),
  );
  return {
    element: h(
      'div',
      { class: 'editor' },
      shown,
      h(
        'div',
        { class: 'buttons' },
        chooser('Choose a sound…', 'audio/wav,audio/flac,.wav,.flac', async (file) => {
          audio = await bytes64(file);
          put(shown, itemView({ audio }, 'your sound'));
          onchange();
        }),
      ),
      h(
        'fieldset',
        { class: 'options' },
        h('legend', {}, 'Missing, in seconds'),
        'from ',
        bounds[0],
        ' to ',
        bounds[1],
      ),
    ),
    async load(input) {
      audio = input.audio;
      put(shown, itemView(input, 'the sound'));
    },
    example: () => {},
    input: () => ({ audio }),
    mask: () => {
      const [from, to] = bounds.map((bound) => bound.valueAsNumber);
      if (!(to > from)) return null;
      const { samples, rate } = soundShape(audio);
      return Array.from({ length: samples }, (_, at) => (at >= from * rate && at < to * rate ? 1 : 0));
    },
  };
}

/** How many samples a WAV or FLAC file has in each channel, and how many a second, as its head says. */
function soundShape(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const tag = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (tag(0) === 'fLaC') {
    const rate = view.getUint32(18) >>> 12;
    return { rate, samples: (bytes[21] & 15) * 2 ** 32 + view.getUint32(22) };
  }
  let rate = 0;
  let frame = 1;
  for (
    let at = 12;
    at + 8 <= bytes.length;
    at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) % 2)
  ) {
    if (tag(at) === 'fmt ') [rate, frame] = [view.getUint32(at + 12, true), view.getUint16(at + 20, true)];
    if (tag(at) === 'data') {
      return { rate, samples: Math.floor(Math.min(view.getUint32(at + 4, true), bytes.length - at - 8) / frame) };
    }
  }
  throw new Refused('this sound has no part named "data"; give a WAV or FLAC file');
}
