// The service's public API, and nothing else: every request of the page goes through here.

const KEY = 'hammingbird.key';

/** What went wrong: a problem (RFC 9457) of the service, or that it could not be reached. */
export class ApiError extends Error {
  constructor({ status = 0, title, detail, type = '', errors = [], retryAfter = null }) {
    super(detail);
    Object.assign(this, { name: 'ApiError', status, title, detail, type, errors, retryAfter });
  }
}

let askForKey = async () => false;

export const api = {
  get: (path, options) => call('GET', path, undefined, options),
  post: (path, body, options) => call('POST', path, body, options),
  put: (path, body, options) => call('PUT', path, body, options),
  del: (path, options) => call('DELETE', path, undefined, options),
  stream,

  /** The key that is kept in this tab, or null. */
  get key() {
    return sessionStorage.getItem(KEY);
  },
  keep(key) {
    sessionStorage.setItem(KEY, key);
  },
  forget() {
    sessionStorage.removeItem(KEY);
  },
  /** ask: called with the problem when a key is needed; resolves to whether there is another one to try with. */
  set onKeyNeeded(ask) {
    askForKey = ask;
  },
};

/** A path of the API with each of its parts encoded, and a query: `path('collections', name, 'items', {limit: 8})`. */
export function path(...parts) {
  const query = typeof parts.at(-1) === 'object' ? parts.pop() : {};
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(given.flatMap(([name, value]) => [value].flat().map((one) => [name, one])));
  return `/${parts.map(encodeURIComponent).join('/')}${given.length ? `?${text}` : ''}`;
}

async function call(method, path, body, options = {}) {
  const reply = await send(method, path, body, options);
  if (reply.status === 204) return null;
  const type = reply.headers.get('content-type') ?? '';
  return /[/+]json\b/.test(type) ? reply.json() : reply.text(); // lines of JSON are text
}

async function send(method, path, body, { signal, accept = 'application/json', headers = {} } = {}) {
  for (;;) {
    const used = api.key;
    const all = { accept, ...headers };
    if (used !== null) all.authorization = `Bearer ${used}`;
    if (body !== undefined) all['content-type'] = 'application/json';
    let reply;
    try {
      reply = await fetch(path, { method, headers: all, body: body && JSON.stringify(body), signal });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new ApiError({
        title: 'The service does not answer',
        detail: 'no reply came; see that it is running and can be reached from here, then try again',
      });
    }
    if (reply.ok) return reply;
    const problem = await problemOf(reply);
    if (reply.status === 401 && (await askForKey(problem, used))) continue;
    throw problem;
  }
}

async function problemOf(reply) {
  let body = {};
  if ((reply.headers.get('content-type') ?? '').includes('json')) body = await reply.json();
  return new ApiError({
    title: `${reply.status} ${reply.statusText}`,
    detail: 'the reply does not say why; the log of the service may',
    ...body,
    status: reply.status,
    retryAfter: Number(reply.headers.get('retry-after')) || null,
  });
}

/** The server-sent events at `path` as they come, their data parsed: `{event, id, data}` each. */
async function* stream(path, options = {}) {
  const reply = await send('GET', path, undefined, { ...options, accept: 'text/event-stream' });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll('\r\n', '\n').split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const found = eventOf(block);
      if (found) yield found;
    }
  }
}

function eventOf(block) {
  const found = { event: 'message', id: null, data: '' };
  for (const line of block.split('\n')) {
    const at = line.indexOf(':');
    const name = line.slice(0, at);
    const value = line.slice(at + 1).replace(/^ /, '');
    if (at > 0 && name === 'data') found.data += (found.data && '\n') + value;
    else if (at > 0 && name in found) found[name] = value;
  }
  return found.data ? { ...found, data: JSON.parse(found.data) } : null;
}
