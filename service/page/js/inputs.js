// What a person gives the service: a picture drawn, dropped, pasted or chosen; a text; numbers; a sound; a code.

import { h, put, select, unique } from './dom.js';
import { itemView } from './items.js';
import { base64, centred, pad } from './pad.js';

const MOST_SIDE = 1024;
const SIDE = 280;

/** The widget for inputs of a kind. onchange: given the input of the API, or null while there is none.
 *
 * signal: until it is aborted, pictures and sounds pasted anywhere on the page come here. Returns the `element`. */
export function inputWidget({ kind, onchange, signal }) {
  const make = { image: pictureInput, text: textInput, vector: vectorInput, audio: soundInput, code: codeInput }[kind];
  return make(onchange, signal);
}

function pictureInput(onchange, signal) {
  const place = h('div', { class: 'give' });
  const shades = { light: ['#000', '#fff'], dark: ['#fff', '#000'] };
  let shade = 'light';
  let centre = true;

  function draw() {
    const [paper, ink] = shades[shade];
    const canvas = pad({ width: SIDE, height: SIDE, name: 'Draw here', background: paper, ondraw: drawn });
    Object.assign(canvas.tool, { colour: ink, size: 30 });
    function drawn() {
      if (canvas.drawn) onchange({ image: base64(centre ? centred(canvas.picture, paper) : canvas.picture) });
    }
    put(
      place,
      canvas.element,
      h(
        'div',
        { class: 'buttons' },
        h(
          'button',
          {
            type: 'button',
            onclick: () => {
              canvas.clear();
              onchange(null);
            },
          },
          'Clear',
        ),
        chooser('Choose a picture…', 'image/png,image/jpeg,image/webp', take),
      ),
      h(
        'div',
        { class: 'options' },
        h(
          'label',
          {},
          h('input', {
            type: 'checkbox',
            checked: centre,
            onchange: ({ target }) => {
              centre = target.checked;
              drawn();
            },
          }),
          ' centre what I draw',
        ),
        h(
          'label',
          {},
          'Ink ',
          select(
            [
              ['light', 'light on dark'],
              ['dark', 'dark on light'],
            ],
            shade,
            (value) => {
              shade = value;
              draw();
            },
          ),
        ),
      ),
      h('p', { class: 'hint' }, 'Draw with mouse, finger or arrow keys and space. Or drop or paste a picture here.'),
    );
  }

  async function take(file) {
    const image = await shrunk(file);
    put(
      place,
      itemView({ image }, 'your picture'),
      h(
        'div',
        { class: 'buttons' },
        h('button', { type: 'button', onclick: draw }, 'Draw instead'),
        chooser('Another picture…', 'image/png,image/jpeg,image/webp', take),
      ),
    );
    onchange({ image });
  }

  accepts(place, 'image/', take, signal);
  draw();
  return place;
}

/** A file as base64 as it is; a larger one than anybody needs here as a smaller PNG. Rejects what is no picture. */
async function shrunk(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || 'what was given'} is no picture that can be read; give a PNG, JPEG or WebP file`);
  }
  const scale = MOST_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bytes64(file);
  const canvas = h('canvas', { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return base64(canvas);
}

/** The bytes of a file in base64. */
export function bytes64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(',')[1]);
    reader.onerror = () => reject(new Error(`${file.name} could not be read: ${reader.error.message}`));
    reader.readAsDataURL(file);
  });
}

/** A button that opens the file dialog. take: given the file; what it throws is said beside the button. */
export function chooser(text, accept, take) {
  const fault = h('span', { class: 'fault', role: 'alert' });
  const input = h('input', {
    type: 'file',
    accept,
    hidden: true,
    tabindex: -1,
    'aria-label': text,
    onchange: async () => {
      fault.textContent = '';
      try {
        if (input.files.length) await take(input.files[0]);
      } catch (error) {
        fault.textContent = error.message;
      }
    },
  });
  return [h('button', { type: 'button', onclick: () => input.click() }, text), input, fault];
}

/** Lets files of a type be dropped on `place` and pasted anywhere until `signal` is aborted. */
export function accepts(place, type, take, signal) {
  const fault = (error) => place.append(h('p', { class: 'fault', role: 'alert' }, error.message));
  const first = (list) => [...(list ?? [])].find((file) => file.type.startsWith(type));
  place.addEventListener('dragover', (event) => {
    event.preventDefault();
    place.classList.add('over');
  });
  place.addEventListener('dragleave', () => place.classList.remove('over'));
  place.addEventListener('drop', (event) => {
    event.preventDefault();
    place.classList.remove('over');
    const file = first(event.dataTransfer.files);
    if (file) take(file).catch(fault);
    else fault(new Error(`drop a file of type ${type}…; this was none`));
  });
  document.addEventListener(
    'paste',
    (event) => {
      const file = first(event.clipboardData.files);
      if (file && place.isConnected) take(file).catch(fault);
    },
    { signal },
  );
}

function written({ label, placeholder, rows, read, onchange }) {
  const fault = h('p', { class: 'fault', role: 'alert' });
  const id = unique('input');
  const area = h('textarea', {
    id,
    rows,
    placeholder,
    spellcheck: false,
    oninput: () => {
      fault.textContent = '';
    },
    onkeydown: (event) => {
      if (event.key === 'Enter' && !event.shiftKey) {
        event.preventDefault();
        give();
      }
    },
  });
  function give() {
    try {
      fault.textContent = '';
      if (area.value.trim()) onchange(read(area.value.trim()));
    } catch (error) {
      fault.textContent = error.message;
    }
  }
  return h(
    'div',
    { class: 'give' },
    h('label', { for: id }, label),
    area,
    fault,
    h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'primary', onclick: give }, 'Search')),
  );
}

function textInput(onchange) {
  return written({
    label: 'A text',
    rows: 4,
    placeholder: 'open a file and read lines',
    onchange,
    read: (text) => ({ text }),
  });
}

function vectorInput(onchange) {
  return written({
    label: 'A vector',
    rows: 5,
    placeholder: '0.12, -1.5, 3 …',
    onchange,
    read: (text) => ({ vector: numbers(text) }),
  });
}

/** The numbers in a text, with commas, spaces or line breaks between them. Throws an error that says which is none. */
export function numbers(text) {
  return text
    .replace(/^\[|\]$/g, '')
    .split(/[\s,;]+/)
    .filter(Boolean)
    .map((part, place) => {
      const value = Number(part);
      if (!Number.isFinite(value))
        throw new Error(`number ${place + 1}, "${part.slice(0, 20)}", is none; write 0.12, -1.5, 3`);
      return value;
    });
}

function codeInput(onchange) {
  return written({
    label: 'A code',
    rows: 2,
    placeholder: '9f3a5c0e11d2b784',
    onchange,
    read: (text) => {
      if (!/^[0-9a-f]+$/i.test(text)) throw new Error('a code is written in the digits 0 to 9 and a to f');
      return { code: text.toLowerCase() };
    },
  });
}

function soundInput(onchange, signal) {
  const place = h('div', { class: 'give' });
  const heard = h('div');
  async function take(file) {
    const audio = await bytes64(file);
    put(heard, itemView({ audio }, 'your sound'));
    onchange({ audio });
  }
  accepts(place, 'audio/', take, signal);
  return put(
    place,
    heard,
    h('div', { class: 'buttons' }, chooser('Choose a sound…', 'audio/wav,audio/flac,.wav,.flac', take)),
    h('p', { class: 'hint' }, 'A WAV or FLAC file; it can also be dropped or pasted here.'),
  );
}
