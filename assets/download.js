// A file that is made for a person: how far it is, with Stop, and saved as soon as it is there.

const state = make('p', { class: 'cs-state', role: 'status' });
const stop = make('button', { type: 'button', class: 'cs-button cs-stop', onclick: () => trigger('stop_wanted') }, '■ Stop');
const meter = make('progress', { class: 'cs-progress', max: '1', 'aria-label': 'The file' });
const failure = make('p', { class: 'cs-error', role: 'alert' });
root.classList.add('cs-download');
root.append(make('div', { class: 'cs-cards-head' }, state, stop), meter, failure);

followValue((value) => {
  const busy = value.phase === 'busy';
  root.dataset.phase = value.phase;
  root.hidden = value.phase === 'idle';
  showDoing(state, value.doing, busy);
  state.hidden = !value.doing;
  meter.hidden = !busy;
  if (value.fraction === null) meter.removeAttribute('value');
  else meter.value = value.fraction;
  setText(failure, value.message);
  failure.hidden = !value.message;
  hideKeepingFocus(stop, !busy, state, failure);
  if (value.file) make('a', { href: value.file.url, download: value.name }).click();
});
