// Sample photographs to click.

root.classList.add('cs-samples');
root.setAttribute('role', 'group');
root.setAttribute('aria-label', 'Sample photographs');
followValue((samples) => {
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
