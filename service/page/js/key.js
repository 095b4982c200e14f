// The dialog in which a key is entered.

import { api } from './api.js';

const dialog = document.getElementById('key-dialog');
const text = document.getElementById('key-text');
let asked = null;

/** Asks for a key; resolves to whether there is a new one. Whoever asks while it is open gets the same answer. */
export function askKey(why = 'Where the service asks for keys, enter yours here.') {
  asked ??= new Promise((resolve) => {
    document.getElementById('key-why').textContent = why;
    text.value = '';
    dialog.returnValue = 'cancel';
    dialog.addEventListener(
      'close',
      () => {
        asked = null;
        const given = text.value.trim();
        const use = dialog.returnValue === 'use' && given !== '';
        if (use) api.keep(given);
        else if (dialog.returnValue === 'forget') api.forget();
        mark();
        resolve(use);
      },
      { once: true },
    );
    dialog.showModal();
    text.focus();
  });
  return asked;
}

function mark() {
  document.getElementById('key').textContent = api.key ? 'Key ✓' : 'Key';
}

/** Wires the button of the page and what is to happen when the service asks for a key. */
export function install(changed) {
  mark();
  document.getElementById('key').addEventListener('click', async () => (await askKey()) && changed());
  // Another request may have been told the key in the meantime.
  api.onKeyNeeded = (problem, used) => (api.key !== null && api.key !== used) || askKey(problem.detail);
}
