// From values to places on a plot, and which values get a tick.

const LEAST_SPAN = 1e-12;

/** The round step that takes about `wanted` of them from `low` to `high`. */
function roundStep(low, high, wanted) {
  const rough = Math.max(high - low, LEAST_SPAN) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => power * factor >= rough * 0.999);
}

/** From values to pixels: `at(value)`, `ticks`, `format(value)`.
 *
 * round: both ends move outwards to a tick. whole: only whole numbers get one. log: ticks at powers of ten; what is
 * not positive lies at the lower end. */
export function scale(axis) {
  return axis.log ? powers(axis) : even(axis);
}

function even({ low, high, from, to, round = false, whole = false, wanted = 5, format = tick }) {
  const most = high > low ? high : low + 1;
  const step = Math.max(roundStep(low, most, wanted), whole ? 1 : 0);
  const start = round ? Math.floor(low / step + 1e-9) * step : low;
  const end = round ? Math.ceil(most / step - 1e-9) * step : most;
  const ticks = [];
  for (let at = Math.ceil(start / step - 1e-9); at * step <= end + step * 1e-9; at += 1) {
    ticks.push(Number((at * step).toPrecision(12)));
  }
  return { at: (value) => from + ((value - start) / (end - start)) * (to - from), ticks, format };
}

function powers({ low, high, from, to, wanted = 5, format = tick }) {
  const start = Math.floor(Math.log10(low));
  const end = Math.ceil(Math.log10(Math.max(high, low * 10)));
  const every = Math.ceil((end - start + 1) / (wanted + 2));
  const ticks = [];
  for (let power = start; power <= end; power += every) ticks.push(10 ** power);
  const share = (value) => (Math.log10(Math.max(value, 10 ** start)) - start) / (end - start);
  return { at: (value) => from + share(value) * (to - from), ticks, format };
}

/** A number beside an axis, where there is little room. */
function tick(value) {
  return Math.abs(value) >= 1e4 && Math.abs(value) < 1e6 ? `${trimmed(value / 1000)} k` : short(value);
}

/** A number as people read it: three digits, thousands apart. */
export function short(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (size >= 1e6) return `${trimmed(value / 1e6)} M`;
  if (size >= 1000 || Number.isInteger(value)) return Math.round(value).toLocaleString('en');
  return size >= 0.001 || size === 0 ? trimmed(value) : value.toExponential(1);
}

function trimmed(value) {
  return String(Number(value.toPrecision(3)));
}

/** A share as percent. */
export function percent(share) {
  return share === null || share === undefined ? '–' : `${trimmed(share * 100)} %`;
}
