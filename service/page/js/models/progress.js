// The course of a training: its losses and how well its codes find, epoch by epoch.

import { h } from '../dom.js';
import { linePlot } from '../plot.js';
import { percent } from '../scale.js';

const MOST = 400;
const QUALITY = { retrieval: 'held-out items found', bit_balance: 'bit balance', distinct_codes: 'distinct codes' };

/** Plots that grow. Returns `{element, add(progress)}`. */
export function trainingPlots() {
  const losses = new Map();
  const quality = new Map(Object.keys(QUALITY).map((name) => [name, []]));
  const x = { label: 'epoch', low: 0, whole: true };
  const lossPlot = linePlot({ title: 'Losses: what training makes small', x, y: { label: 'loss' }, series: [] });
  const qualityPlot = linePlot({
    title: 'How good the codes are, on items held out',
    x,
    y: { label: 'share', low: 0, high: 1, format: percent },
    series: [],
  });
  const element = h('div', { class: 'plots', hidden: true }, lossPlot.element, qualityPlot.element);

  function add(progress) {
    if (!progress.steps) return;
    element.hidden = false;
    const at = (progress.step / progress.steps) * progress.epochs;
    for (const [name, value] of Object.entries(progress.losses)) keep(losses, name, at, value);
    for (const name of quality.keys()) if (progress[name] !== null) keep(quality, name, at, progress[name]);
    const axis = { ...x, high: progress.epochs };
    lossPlot.update({
      x: axis,
      series: [...losses].map(([name, points]) => ({ name: name.replaceAll('_', ' '), points })),
    });
    qualityPlot.update({
      x: axis,
      series: [...quality]
        .filter(([, points]) => points.length)
        .map(([name, points]) => ({ name: QUALITY[name], points })),
    });
  }
  return { element, add };
}

/** Adds a point; of very many, every other one goes. */
function keep(all, name, at, value) {
  const points = all.get(name) ?? [];
  if (points.length && points.at(-1)[0] >= at) points.pop();
  points.push([at, value]);
  all.set(
    name,
    points.length > MOST ? points.filter((_, place) => place % 2 === 0 || place === points.length - 1) : points);
}
