// A text as the model's tokenizer splits it: each token above its number.

import { make, setText } from '../common/dom.js';
import { readable } from '../common/tokens.js';

// Whoever types is asked about when they pause, not at every letter.
const PAUSE_MILLISECONDS = 150;

export function mount(part) {
  const { element, root, trigger, followValue } = part;
  const count = make('p', { class: 'cs-state', role: 'status' });
  const failure = make('p', { class: 'cs-error', role: 'alert' });
  const list = make('ol', { class: 'cs-tokens', dir: 'auto', 'aria-label': 'Tokens' });
  root.classList.add('cs-text-tokens');
  root.append(count, failure, list);

  /** A blank is drawn as a mark, because it belongs to the token. */
  const visible = (token) => token.replace(/ /g, '␣').replace(/\n/g, '⏎').replace(/\t/g, '⇥') || '∅';

  let pause = 0;
  element.closest('#cs-tokenizer').addEventListener('input', () => {
    clearTimeout(pause);
    pause = setTimeout(() => trigger('text_typed'), PAUSE_MILLISECONDS);
  });

  followValue((value) => {
    const { tokens, characters } = value;
    const s = (number) => (number === 1 ? '' : 's');
    setText(count, value.title ? `${characters} character${s(characters)} → ${tokens.length} token${s(tokens.length)} · ${value.title}` : value.doing);
    setText(failure, value.message);
    failure.hidden = !value.message;
    list.replaceChildren(...tokens.map(([id, token], place) => make('li', { 'data-hue': place % 4, title: `token ${place + 1}: “${token}”, number ${id}` },
      make('span', { class: 'cs-piece', 'aria-label': readable(token) }, visible(token)), make('span', { class: 'cs-id', dir: 'ltr' }, String(id)))));
  });
}
