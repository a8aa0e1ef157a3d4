// The same prompt on a changed picture: weighted by a word's map, or with its hottest patches hidden.

import { make, setText } from '../common/dom.js';
import { makePanel } from '../common/panel.js';
import { percent } from '../common/tokens.js';

export function mount(part) {
  const { element, trigger, followValue } = part;
  const share = make('input', { type: 'range', min: '0.05', max: '0.6', step: '0.05', value: '0.25', 'aria-label': 'How many of the patches are hidden', oninput: drawShare });
  const shareText = make('output', {});
  const buttons = [['weighted', 'Weigh the picture by the map'], ['hidden', 'Hide the hottest patches']]
    .map(([how, text]) => make('button', { type: 'button', class: 'cs-button', onclick: () => trigger('again_wanted', { how, share: Number(share.value), view }) }, text));
  const actions = make('div', { class: 'cs-again-actions' }, ...buttons, make('label', { class: 'cs-control cs-again-share' }, make('span', {}, 'hide ', shareText), share));
  const list = make('ol', { class: 'cs-again' });
  const panel = makePanel(part, 'Ask again', actions, list);
  let view = null;
  let drawn = '';

  function drawShare() {
    setText(shareText, percent(Number(share.value)));
  }

  /** A caption, the words that the other one does not have marked. */
  function words(text, other) {
    const known = new Set(other.split(/\s+/));
    return text.split(/\s+/).flatMap((word, index) => [index ? ' ' : '', known.has(word) ? word : make('mark', { class: 'cs-new' }, word)]);
  }

  function makeResult({ picture, how, before, after }) {
    return make('li', {},
      make('img', { src: picture.url, alt: `The picture as it was asked about again: ${how}` }),
      make('div', {},
        make('p', { class: 'cs-hint' }, how),
        make('p', { class: 'cs-again-text', dir: 'auto' }, make('span', { class: 'cs-tag', dir: 'ltr' }, 'before'), ...words(before, after)),
        make('p', { class: 'cs-again-text', dir: 'auto' }, make('span', { class: 'cs-tag', dir: 'ltr' }, 'again'), ...words(after, before))));
  }

  element.closest('#cs-attention').addEventListener('cs-view', (event) => { view = event.detail; });
  drawShare();
  followValue((value) => {
    panel.show(value);
    for (const button of buttons) button.disabled = value.phase === 'busy' || !value.ready;
    const key = JSON.stringify(value.results);
    if (key !== drawn) list.replaceChildren(...(value.results || []).map(makeResult)); // else pictures flicker, and what was marked is lost
    drawn = key;
    list.hidden = !list.childElementCount;
  });
}
