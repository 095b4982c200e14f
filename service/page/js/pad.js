// A canvas to draw on, by mouse, finger or keys: a picture, and above it a mask of what is to count as missing.

import { h } from './dom.js';

const OPAQUE = 128;
const MASKED = '#2fae96'; // told by its opacity alone; the colour is for the eye

/** A drawing area of `width` x `height` pixels, shown larger.
 *
 * ondraw: called when a stroke ends. `tool` says what a stroke does: `{on: 'picture' | 'mask', colour, size}`, size in
 * pixels of the picture. */
export function pad({ width, height, name, background = '#000', ondraw }) {
  const picture = h('canvas', { width, height });
  const mask = h('canvas', { width, height, class: 'mask' });
  const pen = h('span', { class: 'pen', 'aria-hidden': 'true' });
  const element = h(
    'div',
    {
      class: `pad${width <= 64 ? ' pixels' : ''}`,
      tabindex: 0,
      role: 'application',
      'aria-label': `${name}. Arrow keys move the pen, space lowers and lifts it.`,
      style: { '--ratio': `${width} / ${height}` },
    },
    picture,
    mask,
    pen,
  );
  const tool = { on: 'picture', colour: '#fff', size: Math.max(1, Math.round(width / 9)) };
  const at = { x: width / 2, y: height / 2 };
  let down = false;
  let drawn = false;

  function clear(layer = 'both') {
    if (layer !== 'mask') {
      const context = picture.getContext('2d', { willReadFrequently: true });
      context.fillStyle = background;
      context.fillRect(0, 0, width, height);
      drawn = false;
    }
    if (layer !== 'picture') mask.getContext('2d', { willReadFrequently: true }).clearRect(0, 0, width, height);
  }

  function stroke(to) {
    const context = (tool.on === 'mask' ? mask : picture).getContext('2d');
    context.fillStyle = context.strokeStyle = tool.on === 'mask' ? MASKED : tool.colour;
    if (tool.size < 4) {
      const steps = Math.ceil(Math.max(Math.abs(to.x - at.x), Math.abs(to.y - at.y), 0.5) * 2);
      for (let step = 0; step <= steps; step += 1)
        cell(context, at.x + ((to.x - at.x) * step) / steps, at.y + ((to.y - at.y) * step) / steps);
    } else {
      context.lineWidth = tool.size;
      context.lineCap = context.lineJoin = 'round';
      context.beginPath();
      context.moveTo(at.x, at.y);
      context.lineTo(to.x, to.y + 0.01);
      context.stroke();
    }
    drawn = true;
  }

  function cell(context, x, y) {
    const corner = (tool.size - 1) / 2;
    context.fillRect(Math.round(Math.floor(x) - corner), Math.round(Math.floor(y) - corner), tool.size, tool.size);
  }

  function move(to, draws) {
    if (draws) stroke(to);
    Object.assign(at, to);
    pen.style.setProperty('left', `${(100 * at.x) / width}%`);
    pen.style.setProperty('top', `${(100 * at.y) / height}%`);
  }

  function place(event) {
    const box = element.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * width) / box.width,
      y: ((event.clientY - box.top) * height) / box.height,
    };
  }

  element.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    down = true;
    Object.assign(at, place(event));
    move(place(event), true);
    event.preventDefault();
    element.focus({ preventScroll: true, focusVisible: false });
  });
  element.addEventListener('pointermove', (event) => {
    if (!down || !element.hasPointerCapture(event.pointerId)) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) move(place(one), true);
  });
  for (const end of ['pointerup', 'pointercancel']) element.addEventListener(end, () => lift());

  function lift() {
    if (!down) return;
    down = false;
    element.classList.remove('down');
    ondraw?.();
  }

  const step = Math.max(1, Math.round(width / 28));
  const keys = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  element.addEventListener('keydown', (event) => {
    if (event.key === ' ') {
      if (down) lift();
      else {
        down = true;
        element.classList.add('down');
        move({ ...at }, true);
      }
    } else if (event.key in keys) {
      const [x, y] = keys[event.key];
      move({ x: within(at.x + x, width), y: within(at.y + y, height) }, down);
    } else return;
    event.preventDefault();
  });
  element.addEventListener('blur', lift);

  function within(value, most) {
    return Math.min(Math.max(value, 0), most - 0.5);
  }

  clear();
  return {
    element,
    picture,
    mask,
    tool,
    clear,
    /** Whether anything was drawn since the last `clear`. */
    get drawn() {
      return drawn;
    },
    /** Shows `image`, which a canvas can draw, and clears the mask. */
    load: (image) => {
      clear();
      picture.getContext('2d').drawImage(image, 0, 0, width, height);
    },
    /** Masks a band across the picture, from one part of its height to another. */
    band: (from, to) => {
      const context = mask.getContext('2d');
      context.fillStyle = MASKED;
      context.fillRect(0, Math.round(from * height), width, Math.round(to * height) - Math.round(from * height));
    },
    /** The picture as base64 PNG, black where it is masked. */
    png: () => {
      const made = h('canvas', { width, height });
      const context = made.getContext('2d', { willReadFrequently: true });
      context.drawImage(picture, 0, 0);
      const rest = context.getImageData(0, 0, width, height);
      const { data } = mask.getContext('2d').getImageData(0, 0, width, height);
      for (let at = 0; at < data.length; at += 4) if (data[at + 3] >= OPAQUE) rest.data.fill(0, at, at + 3);
      context.putImageData(rest, 0, 0);
      return base64(made);
    },
    /** The mask as rows of 0 and 1, or null where nothing is masked. */
    maskRows: () => {
      const { data } = mask.getContext('2d').getImageData(0, 0, width, height);
      const rows = Array.from({ length: height }, (_, y) =>
        Array.from({ length: width }, (__, x) => (data[4 * (y * width + x) + 3] >= OPAQUE ? 1 : 0)),
      );
      return rows.some((row) => row.includes(1)) ? rows : null;
    },
  };
}

/** The contents of a canvas as a PNG file in base64. */
export function base64(canvas) {
  return canvas.toDataURL('image/png').split(',')[1];
}

/** A square canvas that the ink of `canvas` fills, as digits are centred in every collection of them. */
export function centred(canvas, background) {
  const { width, height } = canvas;
  const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
  const paper = background === '#000' ? 0 : 255;
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (Math.abs(data[4 * (y * width + x)] - paper) < 64) continue;
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
    }
  }
  if (right < 0) return canvas;
  const [wide, high] = [right - left + 1, bottom - top + 1];
  const side = 128;
  const scale = side / Math.max(wide, high);
  const made = h('canvas', { width: side, height: side });
  const context = made.getContext('2d');
  context.fillStyle = background;
  context.fillRect(0, 0, side, side);
  context.drawImage(
    canvas,
    left,
    top,
    wide,
    high,
    (side - wide * scale) / 2,
    (side - high * scale) / 2,
    wide * scale,
    high * scale,
  );
  return made;
}
