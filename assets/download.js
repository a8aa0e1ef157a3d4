// A file that was made for a person, saved as soon as it is there.

followValue((value) => {
  if (!value.file) return;
  make('a', { href: value.file.url, download: value.name }).click();
});
