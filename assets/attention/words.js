// All words at once: each map small, over the picture, with its word below.

import { paintMap, placeOver } from './paint.js';
import { make } from '../common/dom.js';
import { readable } from '../common/tokens.js';

/** `choose(unit)` hears the one that was clicked. */
export function makeWordGrid({ choose }) {
  const node = make('ol', { class: 'cs-word-grid' });
  let figures = [];
  let drawn = null;

  function rebuild(units, look) {
    drawn = units;
    figures = units.map((unit, index) => {
      const image = make('img', { src: look.picture.url, alt: '' });
      const heat = make('canvas', { 'aria-hidden': 'true' });
      const label = make('span', { class: `cs-word-label${unit.isPrompt ? ' is-prompt' : ''}`, dir: 'auto' }, unit.text || '␣');
      const button = make('button', { type: 'button', class: 'cs-word-cell', style: `--ratio: ${(look.width / look.height).toFixed(4)}`, 'aria-label': `Map of ${readable(unit.text)}, ${index + 1} of ${units.length}`, onclick: () => choose(index) },
        make('span', { class: 'cs-word-picture' }, image, heat), label);
      return { button, heat };
    });
    node.replaceChildren(...figures.map(({ button }) => make('li', {}, button)));
  }

  return {
    node,
    /** `{look, raster, units, maps [units × patches] in 0…1, colours, opacity, smooth, chosen}`. */
    show({ look, raster, units, maps, colours, opacity, smooth, chosen }) {
      if (units !== drawn) rebuild(units, look);
      figures.forEach(({ button, heat }, index) => {
        paintMap(heat, raster, maps.subarray(index * look.patches, (index + 1) * look.patches), colours);
        placeOver(heat, raster.region);
        heat.style.opacity = String(opacity);
        heat.classList.toggle('is-smooth', smooth);
        button.setAttribute('aria-pressed', String(index === chosen));
      });
    },
    mark(chosen) {
      figures.forEach(({ button }, index) => button.setAttribute('aria-pressed', String(index === chosen)));
    },
  };
}
