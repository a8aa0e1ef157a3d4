// Sample photographs or clips to click.

import { addressOf } from './address.js';
import { make } from './dom.js';

/** Draw the samples and raise `sample_chosen` for the one that is clicked. */
export function drawSamples(part) {
  const { root, trigger, followValue } = part;
  root.classList.add('cs-samples');
  root.setAttribute('role', 'group');
  followValue((samples) => {
    root.setAttribute('aria-label', samples[0]?.group || 'Samples');
    root.replaceChildren(
      ...samples.map((sample) =>
        make(
          'button',
          { type: 'button', class: 'cs-sample', title: sample.alt, onclick: () => trigger('sample_chosen', { name: sample.name }) },
          make('img', { src: addressOf(sample.thumbnail), alt: `Sample: ${sample.alt}`, width: '72', height: '72', draggable: 'false' }),
        ),
      ),
    );
  });
}

export function mount(part) {
  drawSamples(part);
}
