// Files to take along: a button a format, how far the file is, with Stop, and the file, saved once it is made.

import { make } from './dom.js';
import { makeProgress } from './panel.js';

export function mount(part) {
  const { props, root, trigger, followValue } = part;
  const buttons = make('div', { class: 'cs-export', role: 'group', 'aria-label': 'Save' },
    ...props.value.formats.map(([kind, title, about]) => make('button', { type: 'button', class: 'cs-button', title: `Save ${about}`, onclick: () => trigger('file_wanted', { kind }) }, `Save ${title}`)));
  const progress = makeProgress(part, 'The file');
  root.classList.add('cs-saving');
  root.append(buttons, ...progress.nodes);
  buttons.hidden = !buttons.childElementCount;

  followValue((value) => {
    root.hidden = buttons.hidden && value.phase === 'idle';
    progress.show(value);
    if (value.file) make('a', { href: value.file.url, download: value.name }).click();
  });
}
