// The caption at 1, 2, 4 … frames below each other; words that are new against the line above are marked.

import { make } from '../common/dom.js';
import { makePanel } from '../common/panel.js';

export function mount(part) {
  const { followValue } = part;
  const list = make('ol', { class: 'cs-counts' });
  const panel = makePanel(part, 'How many frames does it take?', list);

  function makeWords(words) {
    return words.flatMap(([word, isNew], index) => [
      index ? ' ' : null,
      isNew ? make('mark', { class: 'cs-new' }, word) : word,
    ]);
  }

  followValue((value) => {
    panel.show(value);
    list.replaceChildren(...value.rows.map((row) => make('li', {},
      make('span', { class: 'cs-count' }, row.count === 1 ? '1 frame' : `${row.count} frames`),
      make('span', { class: 'cs-count-text', dir: 'auto' }, ...makeWords(row.words)))));
    list.hidden = !value.rows.length;
  });
}
