// What parts have in common that work for long: a titled panel, and a line that says how far the work is.

import { hideKeepingFocus, make, setText, showDoing } from './dom.js';

/**
 * A titled panel with a sentence, one action, and Stop while it works; `show` takes what the panel's value says.
 * What the function `detail` returns, where a script sets one, goes along when the action is taken.
 */
export function makePanel({ root, trigger }, title, ...content) {
  const heading = make('h2', { tabindex: '-1' }, title);
  const about = make('p', { class: 'cs-hint' });
  const state = make('span', { class: 'cs-hint', role: 'status' });
  const action = make('button', { type: 'button', class: 'cs-button', onclick: () => trigger('panel_wanted', panel.detail?.()) });
  const halt = make('button', { type: 'button', class: 'cs-button', onclick: () => trigger('panel_stopped') }, '■ Stop');
  const bar = make('progress', { class: 'cs-progress', max: '1', 'aria-label': title });
  const failure = make('p', { class: 'cs-error', role: 'alert' });
  root.classList.add('cs-panel');
  root.append(
    make('div', { class: 'cs-panel-head' }, heading, state, action, halt),
    about, bar, failure, ...content);
  const panel = {
    detail: null,
    heading,
    halt,
    show(value) {
      root.dataset.phase = value.phase;
      root.hidden = value.phase === 'idle' && !value.ready;
      const busy = value.phase === 'busy';
      setText(about, value.about || '');
      about.hidden = !value.about;
      showDoing(state, busy ? value.doing : value.phase === 'stopped' ? 'Stopped.' : '', busy);
      setText(action, value.action || '');
      if (busy) halt.hidden = false;
      hideKeepingFocus(action, busy || !value.action || value.phase === 'done', halt, heading);
      action.disabled = !value.ready;
      hideKeepingFocus(halt, !busy, action, heading);
      bar.hidden = !busy;
      if (value.fraction === null) bar.removeAttribute('value');
      else bar.value = value.fraction;
      setText(failure, value.message || '');
      failure.hidden = !value.message;
    },
  };
  return panel;
}

/** What is being done, how far it is, Stop, and what went wrong; `show` takes `{phase, doing, fraction, message}`. */
export function makeProgress({ root, trigger }, label) {
  const state = make('p', { class: 'cs-state', role: 'status' });
  const stop = make('button', { type: 'button', class: 'cs-button cs-stop', onclick: () => trigger('stop_wanted') }, '■ Stop');
  const meter = make('progress', { class: 'cs-progress', max: '1', 'aria-label': label });
  const failure = make('p', { class: 'cs-error', role: 'alert' });
  return {
    nodes: [make('div', { class: 'cs-cards-head' }, state, stop), meter, failure],
    show(value) {
      const busy = value.phase === 'busy';
      root.dataset.phase = value.phase;
      showDoing(state, value.doing, busy);
      state.hidden = !value.doing;
      meter.hidden = !busy;
      if (value.fraction === null) meter.removeAttribute('value');
      else meter.value = value.fraction;
      setText(failure, value.message);
      failure.hidden = !value.message;
      hideKeepingFocus(stop, !busy, state, failure);
    },
  };
}
