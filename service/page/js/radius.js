// The radius: how many items lie within each, and a slider to choose one.

import { path } from './api.js';
import { count, h, later, number, put, s } from './dom.js';

const MOST_COUNTS = 129;
const MANY_ITEMS = 250_000;

/** How many items lie within each of a number of radii of a code: `[[radius, items], ...]`, from 0 to all bits.
 *
 * Each is a search that only counts, so there are fewer where items are many; `at` is always among them. */
export async function countsWithin(api, { collection, bits, items, code, filter, at }, signal) {
  const step = Math.ceil((bits + 1) / (items > MANY_ITEMS ? MOST_COUNTS / 4 : MOST_COUNTS));
  const radii = Array.from({ length: bits + 1 }, (_, radius) => radius).filter(
    (radius) => radius % step === 0 || radius === bits || radius === at,
  );
  const searches = radii.map((radius) => ({ collection, query: { code }, radius, filter, count_only: true }));
  const { results } = await api.post(path('search', 'batch'), { searches }, { signal });
  return radii.map((radius, place) => [radius, results[place].total]);
}

/** A slider over the radii. onchange: given the radius chosen, or null for "as far as it takes". */
export function radiusSlider({ bits, onchange }) {
  let counts = [];
  const choose = later(onchange, 120); // an arrow key that is held down chooses once
  const said = h('output', { class: 'held', for: 'radius' });
  const bars = s('svg', { class: 'bars', viewBox: '0 0 100 30', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  const slider = h('input', {
    id: 'radius',
    type: 'range',
    min: 0,
    max: bits,
    step: 1,
    value: 0,
    oninput: () => {
      say();
    },
    onchange: () => {
      nearest.hidden = false;
      choose(Number(slider.value));
    },
  });
  const nearest = h(
    'button',
    {
      type: 'button',
      class: 'quiet',
      hidden: true,
      onclick: () => {
        nearest.hidden = true;
        onchange(null);
      },
    },
    'just the nearest',
  );

  function say() {
    const radius = Number(slider.value);
    const [counted, within] = counts.findLast(([at]) => at <= radius) ?? [];
    if (within === undefined) return;
    const text = `${count(within, 'item')}${counted < radius ? ' or more' : ''} of ${number(counts.at(-1)[1])}`;
    said.textContent = `${text} ${within === 1 ? 'lies' : 'lie'} within ${count(radius, 'bit')}`;
    slider.setAttribute('aria-valuetext', `radius ${radius}: ${text}`);
    for (const bar of bars.children) bar.classList.toggle('in', Number(bar.dataset.radius) <= radius);
  }

  function draw() {
    const most = counts.at(-1)?.[1] || 1;
    put(
      bars,
      counts.map(([radius, within], place) => {
        const [from, to] = [radius, counts[place + 1]?.[0] ?? bits + 1].map((at) => (100 * at) / (bits + 1));
        const high = within ? Math.max(0.6, (30 * within) / most) : 0;
        return s('rect', { x: from, width: (to - from) * 0.8, y: 30 - high, height: high, 'data-radius': radius });
      }),
    );
  }

  return {
    element: h(
      'div',
      { class: 'radius' },
      h('div', { class: 'row' }, h('label', { for: 'radius' }, 'Radius'), said, nearest),
      bars,
      slider,
      h('div', { class: 'row ends' }, h('span', {}, '0: the same code'), h('span', {}, `${bits}: every code`)),
    ),
    /** Shows the counts, and the slider at `radius`. */
    show(found, radius) {
      counts = found;
      slider.value = radius;
      draw();
      say();
    },
  };
}
