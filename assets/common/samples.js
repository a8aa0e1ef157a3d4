// Sample photographs or clips to click.

root.classList.add('cs-samples');
root.setAttribute('role', 'group');
followValue((samples) => {
  root.setAttribute('aria-label', samples[0]?.group || 'Sample photographs');
  root.replaceChildren(
    ...samples.map((sample) =>
      make(
        'button',
        { type: 'button', class: 'cs-sample', title: sample.alt, onclick: () => trigger('sample_chosen', { name: sample.name }) },
        make('img', { src: sample.thumbnail, alt: `Sample: ${sample.alt}`, width: '72', height: '72', draggable: 'false' }),
      ),
    ),
  );
});
