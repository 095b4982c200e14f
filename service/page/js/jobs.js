// Jobs: what runs in the background, followed by its events, with its progress, its end and a way to stop it.

import { ApiError, path } from './api.js';
import { h, number, put, tell } from './dom.js';
import { problemView } from './problem.js';

export const ENDED = new Set(['succeeded', 'failed', 'cancelled', 'interrupted']);

const NAMES = {
  train: 'Training',
  reencode: 'Change of model',
  duplicates: 'Search for duplicates',
  calibrate: 'Calibration',
};
const AGAIN_MS = 1000;

/** The job whenever it changes, until it has ended. Where the connection breaks it is taken up again. */
export async function* states(api, id, { signal, onlost = () => {} }) {
  for (;;) {
    try {
      for await (const { data } of api.stream(path('jobs', id, 'events'), { signal })) {
        yield data;
        if (ENDED.has(data.state)) return;
      }
    } catch (error) {
      // A refusal is final; that nobody answers is not, nor is a stream that breaks off.
      if (error.name === 'AbortError' || (error instanceof ApiError && error.status !== 0)) throw error;
      onlost();
    }
    await new Promise((resolve) => {
      setTimeout(resolve, AGAIN_MS);
    });
    signal.throwIfAborted();
  }
}

/** A job as people follow it. onstate: called with it whenever it changes. Returns `{element, done}`; `done`
 * resolves to the ended job, and rejects when the part is left. */
export function jobView(api, job, { signal, onstate = () => {} }) {
  const bar = h('progress', { max: 1, 'aria-label': `${NAMES[job.kind]}: progress` });
  const line = h('p', { class: 'job-line' });
  const place = h('div');
  const stop = h('button', { type: 'button', onclick: cancel }, 'Cancel');
  const title = h('strong', {}, titleOf(job));
  const element = h('section', { class: 'job', 'aria-label': titleOf(job) },
    h('div', { class: 'job-head' }, title, h('span', { class: 'job-state' }), stop),
    bar,
    line,
    place);

  async function cancel() {
    stop.disabled = true;
    try {
      show(await api.del(path('jobs', job.id), { signal }));
    } catch (error) {
      stop.disabled = false;
      if (error.name !== 'AbortError') put(place, problemView(error));
    }
  }

  function show(now) {
    const ended = ENDED.has(now.state);
    const share = now.state === 'succeeded' ? 1 : shareOf(now);
    element.dataset.state = now.state;
    put(element.querySelector('.job-state'), stateText(now));
    if (share === null) bar.removeAttribute('value');
    else bar.value = share;
    bar.hidden = ended;
    stop.hidden = ended;
    put(line, ended ? null : progressLine(now));
    line.hidden = ended;
    if (now.error) put(place, problemView(new ApiError(now.error)));
    onstate(now);
    return ended;
  }

  async function run() {
    show(job);
    tell(`${titleOf(job)}: ${stateText(job)}`);
    const onlost = () => put(line, 'The service does not answer; trying again.');
    for await (const now of states(api, job.id, { signal, onlost })) {
      if (show(now)) {
        tell(`${titleOf(job)}: ${stateText(now)}`);
        return now;
      }
    }
    throw new Error('the events of the job ended before it did');
  }
  return { element, done: run() };
}

/** "Training my-hash". */
export function titleOf({ kind, subject }) {
  const { collection, model } = subject;
  if (kind === 'train') return `${NAMES[kind]} of ${model ?? 'a model'}`;
  if (kind === 'reencode' && model) return `${collection} goes over to ${model}`;
  return collection ? `${NAMES[kind]} in ${collection}` : NAMES[kind];
}

function stateText({ state }) {
  return (
    { queued: 'waits for its turn', running: 'runs', interrupted: 'interrupted: the service ended' }[state] ?? state
  );
}

/** How far it is, from 0 to 1; null where it cannot be said. */
function shareOf({ kind, progress }) {
  if (kind === 'train' && progress.steps) return progress.step / progress.steps;
  if (progress.stage === 'naming') return progress.of ? progress.groups / progress.of : null;
  if (progress.total) return progress.done / progress.total;
  return progress.done ?? null;
}

function progressLine({ kind, state, progress }) {
  const parts = [];
  if (progress.stage) parts.push(progress.stage);
  if (progress.why) parts.push(progress.why);
  if (kind === 'train' && progress.epochs) parts.push(`epoch ${number(progress.epoch)} of ${number(progress.epochs)}`);
  if (progress.total) parts.push(`${number(progress.done)} of ${number(progress.total)}`);
  if (progress.pairs !== undefined) parts.push(`${number(progress.pairs)} pairs so far`);
  if (state === 'running' && progress.items_per_s) parts.push(`${number(progress.items_per_s)} items a second`);
  if (state === 'running' && Number.isFinite(progress.eta_s)) parts.push(`about ${duration(progress.eta_s)} left`);
  return parts.join(' · ');
}

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
