// What is there twice: a job finds all groups of items within a radius of one another, and they are shown as pictures.

import { ApiError, path } from '../api.js';
import { bitPicture } from '../bits.js';
import { count, field, h, number, put, tell } from '../dom.js';
import { itemView, shelf } from '../items.js';
import { jobView } from '../jobs.js';
import { actionButton, ago, confirmed, facts, guarded } from '../widgets.js';
import { newest } from './newest.js';

const GROUPS = 10;
const MEMBERS = 8;

export async function show(place, about, signal) {
  const { api, name, collection } = about;
  const radius = h('input', { type: 'number', min: 0, max: collection.bits, value: 0, required: true });
  const said = h('div');
  const found = h('div');
  const run = h('form',
    {
      class: 'bar',
      onsubmit: (event) => {
        event.preventDefault();
        guarded(put(said), start, signal);
      },
    },
    field('Radius', radius, 'bits in which duplicates may differ; 0 finds equal codes'),
    h('button', { class: 'primary' }, 'Find duplicates'));

  async function start() {
    put(found);
    await follow(
      await api.post(path('collections', name, 'duplicates'), { radius: radius.valueAsNumber, max_groups: 0 },
        { signal }));
  }

  async function follow(job) {
    const view = jobView(api, job, { signal });
    put(said, view.element);
    const ended = await view.done;
    if (ended.state === 'succeeded') await groupsView(found, ended, about, signal);
  }

  put(place,
    h('p', {},
      'Items within a radius of one another belong to one group; in a group, each lies near at least one other. ' +
        'Searches go on while they are looked for.'),
    run,
    said,
    found);
  const job = await newest(api, 'duplicates', name, signal);
  if (job?.state === 'succeeded') await groupsView(found, job, about, signal);
  else if (job) await follow(job);
}

async function groupsView(place, job, about, signal) {
  const { result } = job;
  const list = h('ol', { class: 'groups' });
  const said = h('div');
  const of = shelf(about.api, signal);
  let shown = 0;
  const more = h('button', { type: 'button', class: 'more', onclick: () => guarded(put(said), load, signal) },
    'More groups');

  async function load() {
    const groups = await groupsOf(about.api, job, shown, signal);
    list.append(...groups.map((group) => groupView(group, about, of, signal)));
    shown += groups.length;
    more.hidden = shown >= result.groups_total || groups.length === 0;
  }

  put(place,
    facts([
      ['Radius', number(result.radius)],
      ['Groups', number(result.groups_total)],
      ['Items in them', number(result.items_in_groups)],
      ['Largest', number(result.largest)],
      ['Of', count(result.items, 'item')],
      ['Found', ago(job.updated_at)],
    ]),
    result.groups_total === 0 &&
      h('p', { class: 'empty' }, `No two items lie within ${count(result.radius, 'bit')} of one another.`),
    list,
    said,
    more);
  more.hidden = true;
  tell(`${count(result.groups_total, 'group')} of duplicates`);
  if (result.groups_total > 0) await guarded(said, load, signal);
}

/** The next groups of a job, from the place `start` on, the largest first. */
async function groupsOf(api, job, start, signal) {
  const lines = await api.get(path('jobs', job.id, 'groups', { start, limit: GROUPS }), { signal });
  return lines
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

function groupView({ ids, size }, about, of, signal) {
  const said = h('div');
  const members = h('div', { class: 'members' }, ids.slice(0, MEMBERS).map((id) => memberView(id, about, of, signal)),
    size > MEMBERS && h('p', { class: 'hint' }, `and ${number(size - MEMBERS)} more`));
  const element = h('li', {},
    h('div', { class: 'group-head' }, h('strong', {}, count(size, 'item')),
      actionButton('Keep the first, delete the rest…', said,
        async () => {
          const rest = ids.slice(1);
          const text =
            `${count(rest.length, 'item')} will be gone: ` +
            `${rest.slice(0, 5).join(', ')}${rest.length > 5 ? ', …' : ''}. ${ids[0]} stays.`;
          if (
            !(await confirmed({
              title: 'Delete the rest of the group?',
              text,
              action: `Delete ${count(rest.length, 'item')}`,
            }))
          )
            return;
          const deleted = await deleteAll(about, rest, signal);
          await about.refresh();
          put(members, memberView(ids[0], about, of, signal));
          put(said, h('p', { class: 'done', role: 'status' }, `${count(deleted, 'item')} deleted.`));
        },
        { kind: 'quiet' })),
    members,
    said);
  return element;
}

const AT_ONCE = 10_000;

async function deleteAll({ api, name }, ids, signal) {
  let deleted = 0;
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const reply = await api.post(path('collections', name, 'delete'), { ids: ids.slice(at, at + AT_ONCE) }, { signal });
    deleted += reply.deleted;
  }
  return deleted;
}

function memberView(id, { name }, of, signal) {
  const place = h('figure', { class: 'member' }, h('div', { class: 'member-item' }), h('figcaption', {}, id));
  const view = place.firstChild;
  of(name, id).then(
    (item) => put(view, item.input ? itemView(item.input, id) : bitPicture(item.code)),
    (error) => {
      if (signal.aborted) return;
      put(view,
        h('p', { class: 'hint' }, error instanceof ApiError && error.status === 404 ? 'deleted since' : error.message));
    });
  return place;
}
