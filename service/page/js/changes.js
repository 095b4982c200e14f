// The buttons that change what an editor holds.

import { h } from './dom.js';

/** A row of buttons. each: `[label, change]`; after a change `onchange` is called. */
export function changes(onchange, ...each) {
  return h(
    'div',
    { class: 'buttons' },
    ...each.map(([label, change]) =>
      h(
        'button',
        {
          type: 'button',
          onclick: () => {
            change();
            onchange();
          },
        },
        label,
      ),
    ),
  );
}
