// A file that is made for a person: how far it is, with Stop, and saved as soon as it is there.

const progress = makeProgress('The file');
root.classList.add('cs-download');
root.append(...progress.nodes);

followValue((value) => {
  root.hidden = value.phase === 'idle';
  progress.show(value);
  if (value.file) make('a', { href: value.file.url, download: value.name }).click();
});
