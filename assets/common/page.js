// Helpers that every part of the page uses. All text goes in as text nodes and attributes, never as markup.

const root = element.querySelector('.cs-part');

/** An element with attributes, listeners (`on…`) and children; strings become text nodes, null is left out. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, setting] of Object.entries(attributes)) {
    if (setting === null || setting === undefined || setting === false) continue;
    if (typeof setting === 'function') node.addEventListener(name.slice(2), setting);
    else node.setAttribute(name, setting === true ? '' : String(setting));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Change a node's text only where it differs, so that nothing flickers and screen readers stay calm. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Hide a node, or show it again. Where a node that goes holds the focus, the first of `others` that can be seen takes
 * it: nowhere at all, a keyboard would begin anew at the page's top.
 */
function hideKeepingFocus(node, isHidden, ...others) {
  const hadFocus = isHidden && node.contains(document.activeElement);
  node.hidden = isHidden;
  const next = hadFocus && others.find((other) => other.getClientRects().length && !other.disabled);
  if (!next) return;
  if (next.tabIndex < 0) next.tabIndex = -1; // what is no control takes the focus only where it was told that it may
  next.focus();
}

/** What counts in a sentence on what is being done: “3 of 16”, megabytes, words, and whatever stands behind its dots. */
const COUNT = /(?<=…) .+$|,? \d[\d,.]* (?:of \d|MB).*$|, word \d.*$/;

/** Say in `node` what is being done. What counts in it is only seen: read aloud, it would never fall silent. */
function showDoing(node, text, isBusy = true) {
  if (!text) { node.replaceChildren(); return; }
  const place = isBusy ? text.search(COUNT) : -1;
  const end = place < 0 ? text.length : place;
  if (node.childElementCount !== 2) node.replaceChildren(make('span'), make('span', { 'aria-hidden': 'true' }));
  setText(node.firstChild, text.slice(0, end));
  setText(node.lastChild, text.slice(end));
}

/** Say in `node` what a phase says: an error aloud, anything else by the class `calm`, and nothing by not being there. */
function showMessage(node, phase, text, calm = 'cs-empty') {
  const isFailed = phase === 'failed';
  node.className = `cs-message ${isFailed ? 'cs-error' : calm}`;
  node.setAttribute('role', isFailed ? 'alert' : 'status');
  showDoing(node, text, phase === 'busy');
  node.hidden = !text;
}

const NARROW_PIXELS = 640;

/** On a narrow screen a part lies below everything that goes in, some do on any screen: show that something happens. */
function bringIntoView(onAnyScreen = false) {
  if (!onAnyScreen && window.innerWidth > NARROW_PIXELS) return;
  const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  requestAnimationFrame(() => {
    if (root.getBoundingClientRect().top > window.innerHeight * 0.6) root.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
  });
}

/** Call `show` with every value that arrives, the first included; values older than the one shown are dropped. */
function followValue(show) {
  let serial = -1;
  const update = () => {
    const current = props.value;
    if (!current || typeof current !== 'object') return;
    if (current.serial !== undefined) {
      if (current.serial < serial) return;
      serial = current.serial;
    }
    show(current);
  };
  watch('value', update);
  update();
}

// ---- tokens and probabilities ----

/** Steps of probability that words are tinted by: the first bound above it, and its name in a legend. */
const LEVELS = [[0.1, 'under 10 %'], [0.25, '10–25 %'], [0.5, '25–50 %'], [0.8, '50–80 %'], [Infinity, '80 % and more']];
const levelOf = (p) => LEVELS.findIndex(([bound]) => p < bound);
const probability = (logProb) => Math.exp(logProb);
const percent = (p) => (p < 0.005 ? '<1 %' : p > 0.995 && p < 1 ? '>99 %' : `${Math.round(p * 100)} %`);
const signed = (number) => (number < 0 ? `−${Math.abs(number).toFixed(2)}` : number.toFixed(2));
const duration = (seconds) => (seconds < 0.1 ? '<0.1 s' : `${seconds.toFixed(1)} s`);
/** A token in words; tokenizers of bytes cut rare characters into pieces that are none by themselves. */
const readable = (token) => (/^\uFFFD+$/.test(token.trim()) ? 'part of a character' : token.trim() || (token ? 'space' : 'nothing'));

/**
 * A titled panel with a sentence, one action, and Stop while it works; `show` takes what the panel's value says.
 * What the function `detail` returns, where a script sets one, goes along when the action is taken.
 */
function makePanel(title, ...content) {
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
function makeProgress(label) {
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

/** What a text of base64 stands for. */
function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index += 1) bytes[index] = text.charCodeAt(index);
  return bytes;
}

/** Show the moment of the clip, in seconds, in the player. */
function seekClip(seconds) {
  const player = document.querySelector('#cs-clip video');
  if (!player) return;
  player.pause();
  player.currentTime = seconds;
}
