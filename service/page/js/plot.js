// Plots as SVG: lines and bars, with axes, a legend, what is under the pointer, and all numbers as a table.
//
// They are drawn anew for the width that they have, so that letters keep their size on a phone.

import { h, put, s, unique } from './dom.js';
import { barTable, barTicks, drawBars, drawLines, kind, lineTable, nearestBar, nearestPoint } from './plot-kinds.js';
import { scale } from './scale.js';

const HEIGHT = 220;
const MARGIN = { top: 10, right: 12, bottom: 40, left: 62 };
const LEAST_WIDTH = 240;

/** Lines over a common axis.
 *
 * x, y: `{label, low?, high?, log?, whole?, format?}`. series: `{name, points: [[x, y], ...],
 * band?: [[x, low, high], ...]}`; a y of null is a gap. marks: `{x | y, name}`, a line across.
 * Returns `{element, update({series, marks})}`. */
export function linePlot({ title, x, y, series, marks = [] }) {
  return plot({ title, x, y, series, marks, draw: drawLines, table: lineTable, near: nearestPoint });
}

/** Bars side by side. bars: `{name, values: [...], notable?: [...]}`, one value a series; notable ones stand out.
 *
 * series: their names. marks: `{y, name}`. Returns `{element, update({bars, marks})}`. */
export function barPlot({ title, x, y, series, bars, marks = [] }) {
  return plot({
    title,
    x,
    y,
    series: series.map((name) => ({ name })),
    bars,
    marks,
    draw: drawBars,
    table: barTable,
    near: nearestBar,
  });
}

function plot(given) {
  const state = { ...given };
  const id = unique('plot');
  const frame = h('div', { class: 'plot-frame' });
  const read = h('p', { class: 'plot-read', 'aria-hidden': 'true' });
  const body = h('tbody');
  const head = h('thead');
  const details = h('details', { class: 'plot-numbers', ontoggle: () => details.open && fillTable() },
    h('summary', {}, 'Numbers'),
    h('div', { class: 'plot-table', tabindex: 0, role: 'region', 'aria-label': `Numbers: ${given.title}` },
      h('table', {}, head, body)));
  const element = h('figure', { class: 'plot' }, h('figcaption', { id }, given.title), legend(state), frame, read,
    details);

  function fillTable() {
    const { names, rows } = state.table(state);
    put(head,
      h('tr', {}, names.map((name) => h('th', { scope: 'col' }, name))));
    put(body,
      rows.map((row) =>
        h('tr', {}, row.map((value, at) => h(at ? 'td' : 'th', { scope: at ? null : 'row' }, value)))));
  }

  function redraw() {
    const width = Math.max(LEAST_WIDTH, Math.floor(frame.clientWidth));
    const svg = s('svg', {
      width,
      height: HEIGHT,
      viewBox: `0 0 ${width} ${HEIGHT}`,
      role: 'img',
      'aria-labelledby': id,
    });
    const area = axes(svg, state, width);
    state.draw(svg, state, area);
    drawMarks(svg, state, area);
    const line = s('line', { class: 'plot-pointer', y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: 'hidden' });
    svg.append(line);
    svg.addEventListener('pointermove', (event) => {
      const found = state.near(state, area, event.clientX - svg.getBoundingClientRect().left);
      if (!found) return;
      line.setAttribute('x1', found.at);
      line.setAttribute('x2', found.at);
      line.setAttribute('visibility', 'visible');
      read.textContent = found.says;
    });
    svg.addEventListener('pointerleave', () => {
      line.setAttribute('visibility', 'hidden');
      read.textContent = '';
    });
    put(frame, svg);
    if (details.open) fillTable();
  }

  let drawn = 0;
  new ResizeObserver(() => {
    if (frame.clientWidth !== drawn && element.isConnected) {
      drawn = frame.clientWidth;
      redraw();
    }
  }).observe(frame);
  return {
    element,
    update(changes) {
      const before = state.series.map(({ name }) => name).join();
      Object.assign(state, changes);
      if (state.series.map(({ name }) => name).join() !== before) element.children[1].replaceWith(legend(state));
      if (element.isConnected) redraw();
    },
  };
}

function legend({ series, bars, marks }) {
  const across = marks.filter(({ y }) => y !== undefined);
  return h('ul', { class: `plot-legend${bars ? ' of-bars' : ''}`, hidden: series.length + across.length < 2 },
    series.map(({ name }, at) => h('li', { class: kind(at) }, name)),
    across.map(({ name }) => h('li', { class: 'mark' }, name)));
}

/** Draws the axes; returns the scales and the size of what is between them. */
function axes(svg, state, width) {
  const { x, y } = state;
  const [xs, ys] = extents(state);
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const area = {
    left: MARGIN.left,
    x: scale({ ...x, ...xs, from: MARGIN.left, to: right, wanted: Math.max(2, Math.floor(width / 90)) }),
    y: scale({ ...y, ...ys, from: bottom, to: MARGIN.top, wanted: 4 }),
    right,
    bottom,
  };
  for (const tick of area.y.ticks) {
    const at = area.y.at(tick);
    svg.append(s('line', { class: 'plot-grid', x1: MARGIN.left, x2: right, y1: at, y2: at }),
      s('text', { class: 'plot-tick', x: MARGIN.left - 6, y: at + 4, 'text-anchor': 'end' }, area.y.format(tick)));
  }
  for (const tick of state.bars
    ? barTicks(state, area)
    : area.x.ticks.map((value) => ({ at: area.x.at(value), text: area.x.format(value) }))) {
    svg.append(s('text', { class: 'plot-tick', x: tick.at, y: bottom + 16, 'text-anchor': 'middle' }, tick.text));
  }
  svg.append(s('line', { class: 'plot-axis', x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
    s('text', { class: 'plot-label', x: (MARGIN.left + right) / 2, y: HEIGHT - 6, 'text-anchor': 'middle' }, x.label),
    s('text',
      {
        class: 'plot-label',
        'text-anchor': 'middle',
        transform: `translate(13 ${(MARGIN.top + bottom) / 2}) rotate(-90)`,
      },
      y.label));
  return area;
}

/** The lowest and highest value of both axes, as far as they are not given. */
function extents({ x, y, series, bars, marks }) {
  const points = bars ? [] : series.flatMap((one) => one.points);
  const across = bars ? [0, bars.length] : points.map(([value]) => value);
  const values = bars
    ? bars.flatMap((bar) => bar.values)
    : [
        ...points.map((point) => point[1]),
        ...series.flatMap((one) => (one.band ?? []).flatMap(([, low, high]) => [low, high])),
      ];
  const up = [...values, ...marks.map((mark) => mark.y)].filter((value) => value !== null && Number.isFinite(value));
  const least = y.log ? leastPositive(up) : Math.min(0, ...up);
  return [
    { low: x.low ?? Math.min(...across, 0), high: x.high ?? Math.max(...across, 0) },
    { low: y.low ?? least, high: y.high ?? Math.max(...up, least), round: y.high === undefined },
  ];
}

function leastPositive(values) {
  return Math.min(...values.filter((value) => value > 0), 1);
}

/** Lines across: those at a value of y are named in the legend, those at one of x beside the line. */
function drawMarks(svg, { marks }, area) {
  for (const { x, y, name } of marks) {
    if (x === undefined) {
      const at = area.y.at(y);
      svg.append(s('line', { class: 'plot-mark', x1: area.left, x2: area.right, y1: at, y2: at }));
      continue;
    }
    const at = area.x.at(x);
    const late = at > area.right - 120;
    const place = { x: at + (late ? -5 : 5), y: MARGIN.top + 10, 'text-anchor': late ? 'end' : 'start' };
    svg.append(s('line', { class: 'plot-mark', x1: at, x2: at, y1: MARGIN.top, y2: area.bottom }),
      s('text', { class: 'plot-mark-name', ...place }, name));
  }
}
