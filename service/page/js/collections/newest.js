import { path } from '../api.js';

/** The newest job of a kind about a collection that succeeded, still goes on, or waits; null where there is none. */
export async function newest(api, kind, collection, signal) {
  const { jobs } = await api.get(path('jobs'), { signal });
  const live = (job) => ['queued', 'running', 'succeeded'].includes(job.state);
  return jobs.find((job) => job.kind === kind && job.subject.collection === collection && live(job)) ?? null;
}
