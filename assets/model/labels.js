// What a picture classifier calls the picture: labels with their probabilities.

import { make, showMessage } from '../common/dom.js';
import { percent } from '../common/tokens.js';

export function mount(part) {
  const { root, followValue } = part;
  const message = make('p', { class: 'cs-message' });
  const list = make('ol', { class: 'cs-bars', 'aria-label': 'Likeliest labels' });
  root.classList.add('cs-labels');
  root.append(message, list);

  followValue((value) => {
    root.dataset.phase = value.phase;
    showMessage(message, value.phase, value.message, 'cs-hint');
    list.hidden = !value.labels.length;
    list.replaceChildren(...value.labels.map(([label, p]) => make('li', {},
      make('span', { class: 'cs-bar-name' }, label),
      make('span', { class: 'cs-bar', 'aria-hidden': 'true' }, make('span', { style: `width: ${(p * 100).toFixed(1)}%` })),
      make('span', { class: 'cs-number' }, percent(p)))));
  });
}
