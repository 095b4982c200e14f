// The newest jobs; those that go on are followed.

import { path } from '../api.js';
import { h, put } from '../dom.js';
import { ENDED, jobView, titleOf } from '../jobs.js';
import { ago, table } from '../widgets.js';

export async function show(place, { api }, signal) {
  const { jobs } = await api.get(path('jobs'), { signal });
  const live = jobs.filter(({ state }) => !ENDED.has(state));
  const views = live.map((job) => jobView(api, job, { signal }));
  put(place,
    live.length > 0 &&
      h('div', { class: 'live-jobs' }, views.map(({ element }) => element)),
    jobs.length === 0
      ? h('p', { class: 'empty' }, 'No job has run yet.')
      : table(
          'The newest jobs',
          ['job', 'state', 'begun', 'what came of it'],
          jobs.map((job) => [
            titleOf(job),
            h('span', { class: `state ${job.state}` }, job.state),
            ago(job.created_at),
            outcome(job),
          ])));
  await Promise.all(views.map(({ done }) => done));
  if (live.length > 0) await show(place, { api }, signal);
}

function outcome({ kind, result, error, state }) {
  if (error) return error.detail;
  if (state !== 'succeeded') return '–';
  if (kind === 'train') return `${result.model.name}:${result.model.version}`;
  if (kind === 'reencode') return `${result.encoded} items encoded, ${result.flipped ? 'serves' : 'made ready'}`;
  if (kind === 'duplicates') return `${result.groups_total} groups within radius ${result.radius}`;
  return 'calibrated';
}
