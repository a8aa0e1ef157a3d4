// One sentence or two for a whole clip, as a text model sums up the captions of its frames.

const text = make('p', { class: 'cs-summary', dir: 'auto' });
const note = make('p', { class: 'cs-hint' });
const panel = makePanel('Summary', text, note);

followValue((value) => {
  panel.show(value);
  setText(text, value.text);
  setText(note, value.note);
  text.hidden = !value.text;
  note.hidden = !value.note;
});
