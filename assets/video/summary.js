// One sentence or two for a whole clip, as a text model sums up the captions of its frames.

import { make, setText } from '../common/dom.js';
import { makePanel } from '../common/panel.js';

export function mount(part) {
  const { followValue } = part;
  const text = make('p', { class: 'cs-summary', dir: 'auto' });
  const note = make('p', { class: 'cs-hint' });
  const panel = makePanel(part, 'Summary', text, note);

  followValue((value) => {
    panel.show(value);
    setText(text, value.text);
    setText(note, value.note);
    text.hidden = !value.text;
    note.hidden = !value.note;
  });
}
