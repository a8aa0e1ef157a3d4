// Below the menu: what the model is good for, the offer of a better one, its download, and what went wrong.

import { hideKeepingFocus, make, setText, showDoing } from './dom.js';

export function mount(part) {
  const { root, trigger, followValue } = part;
  const text = make('p', { class: 'cs-notice-text' });
  const offer = make('button', { type: 'button', class: 'cs-button', onclick: () => trigger('offer_taken') });
  const failure = make('p', { class: 'cs-error', role: 'alert' });
  const progressText = make('span', { class: 'cs-progress-text', role: 'status' });
  const bar = make('progress', { class: 'cs-progress', max: '1', 'aria-label': 'Loading the model' });
  const cancel = make('button', { type: 'button', class: 'cs-button', onclick: () => trigger('loading_cancelled') }, 'Cancel');
  const progress = make('div', { class: 'cs-notice-row' }, progressText, bar, cancel);
  const about = make('div', { class: 'cs-notice-row' }, text, offer);
  root.classList.add('cs-notice');
  root.append(failure, about, progress);

  followValue((notice) => {
    setText(failure, notice.error || '');
    failure.hidden = !notice.error;
    setText(text, notice.text || '');
    if (notice.text) about.hidden = false;
    if (notice.offer) setText(offer, notice.offer.label);
    if (notice.progress) {
      progress.hidden = false;
      showDoing(progressText, notice.progress.text);
      if (notice.progress.fraction === null) bar.removeAttribute('value');
      else bar.value = notice.progress.fraction;
    }
    // The menu itself would open where it takes the focus; the status line names the model as well.
    const line = document.querySelector('#cs-status .cs-part');
    hideKeepingFocus(offer, !notice.offer, cancel, line);
    hideKeepingFocus(progress, !notice.progress, offer, failure, line);
    about.hidden = !notice.text;
    root.hidden = failure.hidden && about.hidden && progress.hidden;
  });

  // A menu of Gradio's takes Tab for a key that opens its list, and leaves the list open over the page behind it.
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Tab' && event.target.role === 'combobox') event.stopPropagation();
  }, true);
}
