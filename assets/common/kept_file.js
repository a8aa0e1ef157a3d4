// Files of the Attention tab, handed to the browser to save as soon as they are made.

const line = make('p', { class: 'cs-hint', role: 'status' });
const failure = make('p', { class: 'cs-error', role: 'alert' });
root.append(line, failure);

followValue((value) => {
  setText(line, value.phase === 'busy' ? 'Making the file…' : value.phase === 'done' ? `Saved ${value.name}.` : '');
  line.hidden = !line.textContent;
  setText(failure, value.message || '');
  failure.hidden = !value.message;
  if (value.phase === 'done') make('a', { href: value.file.url, download: value.name }).click();
});
