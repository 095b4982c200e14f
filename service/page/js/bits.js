// Codes: hexadecimal, as the API gives them, and as grids of bits.

import { h, s, unique } from './dom.js';

/** The bits of a code, the first being the most significant one of the first byte. */
export function bitsOf(code) {
  return Array.from(code).flatMap((digit) => {
    const value = Number.parseInt(digit, 16);
    return [8, 4, 2, 1].map((mask) => (value & mask ? 1 : 0));
  });
}

/** The code with these bits. */
export function codeOf(bits) {
  let code = '';
  for (let at = 0; at < bits.length; at += 4) {
    code += (8 * bits[at] + 4 * bits[at + 1] + 2 * bits[at + 2] + bits[at + 3]).toString(16);
  }
  return code;
}

/** The places where two codes of one length differ. */
export function differing(a, b) {
  const other = bitsOf(b);
  return bitsOf(a).flatMap((bit, place) => (bit === other[place] ? [] : [place]));
}

function columns(bits) {
  if (bits <= 16) return 8;
  return bits <= 128 ? 16 : 32;
}

/** A code as a small picture: dark is 1; bits that differ from the code `against` are in the accent colour. */
export function bitPicture(code, { against = null } = {}) {
  const bits = bitsOf(code);
  const wide = columns(bits.length);
  const differs = new Set(against === null ? [] : differing(code, against));
  const paths = { one: '', zero: '', 'one differs': '', 'zero differs': '' };
  bits.forEach((bit, place) => {
    const square = `M${(place % wide) * 10 + 1} ${Math.floor(place / wide) * 10 + 1}h8v8h-8z`;
    paths[(bit ? 'one' : 'zero') + (differs.has(place) ? ' differs' : '')] += square;
  });
  const says =
    against === null
      ? `Code ${code}`
      : `Code ${code}; ${differs.size ? `differs in bits ${[...differs].join(', ')}` : 'the same code'}`;
  const title = unique('code');
  return s(
    'svg',
    {
      class: 'bits',
      viewBox: `0 0 ${wide * 10} ${Math.ceil(bits.length / wide) * 10}`,
      role: 'img',
      'aria-labelledby': title,
    },
    s('title', { id: title }, says),
    Object.entries(paths).map(([kind, d]) => d && s('path', { class: kind, d })),
  );
}

/** A code whose bits can be flipped: buttons in a grid, walked by the arrow keys. onflip: given the place of a bit. */
export function bitButtons(code, { against = null, onflip }) {
  const bits = bitsOf(code);
  const wide = columns(bits.length);
  const differs = new Set(against === null ? [] : differing(code, against));
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide };
  const buttons = bits.map((bit, place) =>
    h('button', {
      type: 'button',
      class: `bit${bit ? ' one' : ''}${differs.has(place) ? ' differs' : ''}`,
      tabindex: place === 0 ? 0 : -1,
      'aria-pressed': String(Boolean(bit)),
      'aria-label': `Bit ${place}${differs.has(place) ? ', flipped' : ''}`,
      title: `bit ${place}`,
      onclick: () => onflip(place),
      onkeydown: (event) => {
        const next = place + (steps[event.key] ?? 0);
        if (!(event.key in steps) || next < 0 || next >= buttons.length) return;
        event.preventDefault();
        buttons[place].tabIndex = -1;
        buttons[next].tabIndex = 0;
        buttons[next].focus();
      },
    }),
  );
  return h(
    'div',
    {
      class: 'bit-buttons',
      role: 'group',
      'aria-label': `Code of ${bits.length} bits; arrow keys walk, Enter flips`,
      style: { '--columns': wide },
    },
    buttons,
  );
}
