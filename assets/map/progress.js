// What is being done for the map and how far it is, with Stop; what could not be used; what is there twice.

import { make } from '../common/dom.js';
import { makeProgress } from '../common/panel.js';

const MOST_LISTED = 200;

export function mount(part) {
  const { root, followValue } = part;
  const progress = makeProgress(part, 'Progress');
  const lists = make('div', { class: 'cs-map-lists' });
  root.classList.add('cs-map-progress');
  root.append(...progress.nodes, lists);

  function makeList({ title, rows, open }) {
    const items = rows.slice(0, MOST_LISTED).map(([name, text]) => make('li', {}, make('strong', {}, name), text ? ` ${text}` : null));
    if (rows.length > MOST_LISTED) items.push(make('li', {}, `and ${rows.length - MOST_LISTED} more`));
    return make('details', { class: 'cs-map-list', open }, make('summary', {}, title), make('ul', {}, ...items));
  }

  let drawn = '';
  followValue((value) => {
    progress.show(value);
    const key = JSON.stringify(value.lists);
    if (key !== drawn) lists.replaceChildren(...value.lists.map(makeList)); // else an open list would close
    drawn = key;
    root.hidden = value.phase === 'idle' && !value.message && !value.lists.length;
  });
}
