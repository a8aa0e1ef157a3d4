// What is being done for the map and how far it is, with Stop; what could not be used; what is there twice.

const state = make('p', { class: 'cs-state', role: 'status' });
const stop = make('button', { type: 'button', class: 'cs-button cs-stop', onclick: () => trigger('stop_wanted') }, '■ Stop');
const meter = make('progress', { class: 'cs-progress', max: '1', 'aria-label': 'Progress' });
const failure = make('p', { class: 'cs-error', role: 'alert' });
const lists = make('div', { class: 'cs-map-lists' });
const MOST_LISTED = 200;
root.classList.add('cs-map-progress');
root.append(make('div', { class: 'cs-cards-head' }, state, stop), meter, failure, lists);

function makeList({ title, rows, open }) {
  const items = rows.slice(0, MOST_LISTED).map(([name, text]) => make('li', {}, make('strong', {}, name), text ? ` ${text}` : null));
  if (rows.length > MOST_LISTED) items.push(make('li', {}, `and ${rows.length - MOST_LISTED} more`));
  return make('details', { class: 'cs-map-list', open }, make('summary', {}, title), make('ul', {}, ...items));
}

let drawn = '';
followValue((value) => {
  root.dataset.phase = value.phase;
  const busy = value.phase === 'busy';
  showDoing(state, value.doing, busy);
  state.hidden = !value.doing;
  meter.hidden = !busy;
  if (value.fraction === null) meter.removeAttribute('value');
  else meter.value = value.fraction;
  setText(failure, value.message);
  failure.hidden = !value.message;
  hideKeepingFocus(stop, !busy, state, failure);
  const key = JSON.stringify(value.lists);
  if (key !== drawn) lists.replaceChildren(...value.lists.map(makeList)); // else an open list would close
  drawn = key;
  root.hidden = value.phase === 'idle' && !value.message && !value.lists.length;
});
