// A sound as a curve of its loudness, with a button that plays it.

import { h, s } from './dom.js';

const BARS = 48;
let playing = null;

/** A sound to look at and to listen to. url: of a WAV or FLAC file. */
export function soundView(url, name) {
  const bars = s('svg', { viewBox: `0 0 ${BARS} 20`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  const button = h('button', { type: 'button', class: 'play', 'aria-label': `Play ${name}`, onclick: toggle }, '▶');
  const audio = new Audio(url);
  for (const end of ['pause', 'ended']) audio.addEventListener(end, () => (button.textContent = '▶'));

  function toggle() {
    const again = playing === audio && !audio.paused;
    playing?.pause();
    if (again) return;
    playing = audio;
    audio.currentTime = 0;
    button.textContent = '■';
    audio.play();
  }

  loudness(url).then((heights) =>
    bars.append(...heights.map((high, at) => s('rect', { x: at, width: 0.7, y: 10 - 10 * high, height: 20 * high }))),
  );
  return h('div', { class: 'item sound' }, button, bars);
}

/** How loud a sound is in each of its parts, from 0 to 1; flat where the browser cannot read it. */
async function loudness(url) {
  const bytes = Uint8Array.from(atob(url.split(',')[1]), (char) => char.charCodeAt(0));
  let samples;
  try {
    const context = new OfflineAudioContext(1, 1, 22050); // only decodes, so the browser lets it without a click
    samples = (await context.decodeAudioData(bytes.buffer)).getChannelData(0);
  } catch {
    return Array(BARS).fill(0.02); // it may still be playable, and the button says where it is not
  }
  const part = Math.max(1, Math.floor(samples.length / BARS));
  const peaks = Array.from({ length: BARS }, (_, at) => peak(samples, at * part, part));
  const most = Math.max(...peaks, 1e-6);
  return peaks.map((one) => Math.max(0.02, one / most));
}

function peak(samples, from, length) {
  let most = 0;
  for (let at = from; at < Math.min(from + length, samples.length); at += 1)
    most = Math.max(most, Math.abs(samples[at]));
  return most;
}
