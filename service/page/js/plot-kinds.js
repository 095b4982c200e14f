// What a plot is of, lines or bars: how each is drawn, what lies under the pointer, and its numbers as a table.

import { s } from './dom.js';
import { short } from './scale.js';

const KINDS = 4;

/** The class that gives the series at this place its colour. */
export function kind(at) {
  return `kind-${at % KINDS}`;
}

export function drawLines(svg, { series }, area) {
  series.forEach(({ band = [], points }, at) => {
    if (band.length) {
      const upper = band.map(([value, , high]) => `${area.x.at(value)},${area.y.at(high)}`);
      const lower = band.toReversed().map(([value, low]) => `${area.x.at(value)},${area.y.at(low)}`);
      svg.append(s('polygon', { class: `plot-band ${kind(at)}`, points: [...upper, ...lower].join(' ') }));
    }
    for (const run of runs(points)) {
      const places = run.map(([value, height]) => `${area.x.at(value).toFixed(1)},${area.y.at(height).toFixed(1)}`);
      svg.append(s('polyline', { class: `plot-line ${kind(at)}`, points: places.join(' ') }));
      if (run.length === 1) {
        svg.append(
          s('circle', { class: `plot-dot ${kind(at)}`, cx: area.x.at(run[0][0]), cy: area.y.at(run[0][1]), r: 3 }));
      }
    }
  });
}

/** The points between the gaps. */
function runs(points) {
  const found = [[]];
  for (const point of points) {
    if (point[1] === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((run) => run.length);
}

export function drawBars(svg, { bars, series }, area) {
  const each = (area.right - area.left) / bars.length;
  const gap = each > 6 ? each * 0.18 : 0;
  const wide = (each - gap) / series.length;
  bars.forEach(({ values, notable = [] }, place) =>
    values.forEach((value, at) => {
      if (value === null) return;
      const [top, bottom] = [area.y.at(Math.max(value, 0)), area.y.at(Math.min(value, 0))].map((y) =>
        Math.min(y, area.bottom));
      svg.append(
        s('rect', {
          class: `plot-bar ${kind(at)}${notable[at] ? ' notable' : ''}`,
          x: area.left + place * each + gap / 2 + at * wide,
          y: top,
          width: Math.max(wide - (each > 6 ? 1 : 0), 0.5),
          height: Math.max(bottom - top, value === 0 ? 0 : 1),
        }));
    }));
}

export function barTicks({ bars }, area) {
  const each = (area.right - area.left) / bars.length;
  const longest = Math.max(...bars.map(({ name }) => String(name).length));
  const every = Math.max(1, Math.ceil((longest * 7 + 12) / each));
  return bars.flatMap(({ name }, place) =>
    place % every ? [] : [{ at: area.left + (place + 0.5) * each, text: name }]);
}

export function nearestPoint({ x, y, series }, area, pointer) {
  const places = [...new Set(series.flatMap(({ points }) => points.map(([value]) => value)))];
  if (!places.length) return null;
  const place = places.reduce((best, value) =>
    Math.abs(area.x.at(value) - pointer) < Math.abs(area.x.at(best) - pointer) ? value : best);
  const parts = series.flatMap(({ name, points }) => {
    const found = points.find(([value]) => value === place);
    return found && found[1] !== null ? [`${name} ${(y.format ?? short)(found[1])}`] : [];
  });
  return { at: area.x.at(place), says: `${x.label} ${(x.format ?? short)(place)}: ${parts.join(', ')}` };
}

export function nearestBar({ x, y, bars, series }, area, pointer) {
  const each = (area.right - area.left) / bars.length;
  const place = Math.min(bars.length - 1, Math.max(0, Math.floor((pointer - area.left) / each)));
  const parts = series.map(({ name }, at) => `${name} ${(y.format ?? short)(bars[place].values[at])}`);
  return { at: area.left + (place + 0.5) * each, says: `${x.label} ${bars[place].name}: ${parts.join(', ')}` };
}

export function lineTable({ x, y, series }) {
  const rows = new Map();
  series.forEach(({ points }, at) =>
    points.forEach(([place, value]) => {
      if (!rows.has(place)) rows.set(place, Array(series.length).fill(null));
      rows.get(place)[at] = value;
    }));
  return {
    names: [x.label, ...series.map(({ name }) => name)],
    rows: [...rows]
      .sort(([a], [b]) => a - b)
      .map(([place, values]) => [(x.format ?? short)(place), ...values.map(y.format ?? short)]),
  };
}

export function barTable({ x, y, series, bars }) {
  return {
    names: [x.label, ...series.map(({ name }) => name)],
    rows: bars.map(({ name, values }) => [name, ...values.map((value) => (y.format ?? short)(value))]),
  };
}
