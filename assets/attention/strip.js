// The caption as a strip of tokens, found by position: a word that occurs twice has two maps.

import { make } from '../common/dom.js';
import { percent, probability, readable } from '../common/tokens.js';

/** Tokens, or whole words: each with its text, its positions, its place in words, and the space before it. */
export function makeUnits(look, merged) {
  const groups = merged ? look.words : look.tokens.map((_, position) => [position]);
  return groups.map((positions) => {
    const texts = positions.map((position) => look.tokens[position][0]);
    const logProb = positions.reduce((sum, position) => sum + look.tokens[position][1], 0);
    return {
      positions,
      text: texts.join('').trim(),
      gap: positions[0] > 0 && texts[0].startsWith(' '),
      isPrompt: positions[0] < look.num_prompt_tokens,
      logProb,
    };
  });
}

/** `choose(unit)` hears clicks and keys, `point(unit or null)` the mouse; `other(key)` hears up and down. */
export function makeStrip({ choose, point, other }) {
  const own = `cs${Math.random().toString(36).slice(2, 9)}`;
  const node = make('div', { class: 'cs-strip', dir: 'auto', role: 'listbox', tabindex: '0', 'aria-label': 'Tokens of the caption', 'aria-orientation': 'horizontal' });
  let options = [];
  let drawn = null;
  let active = 0;

  const unitAt = (event) => options.indexOf(event.target.closest('.cs-strip-token'));
  node.addEventListener('pointermove', (event) => {
    if (event.pointerType === 'mouse') point(unitAt(event) < 0 ? null : unitAt(event));
  });
  node.addEventListener('pointerleave', () => point(null));
  node.addEventListener('click', (event) => { if (unitAt(event) >= 0) choose(unitAt(event)); });
  node.addEventListener('keydown', (event) => {
    const last = options.length - 1;
    const on = getComputedStyle(node).direction === 'rtl' ? -1 : 1; // arrows follow the eye
    const within = (place) => Math.max(0, Math.min(last, place));
    const target = { ArrowRight: within(active + on), ArrowLeft: within(active - on), Home: 0, End: last }[event.key];
    if (target === undefined && !['ArrowUp', 'ArrowDown', ' '].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (target === undefined) other(event.key);
    else choose(target);
  });

  function rebuild(units) {
    drawn = units;
    options = units.map((unit, index) => make('span', {
      class: `cs-strip-token${unit.isPrompt ? ' is-prompt' : ''}`, role: 'option', id: `${own}-${index}`, 'aria-selected': 'false',
    }, unit.text || '␣'));
    node.replaceChildren(...options.flatMap((option, index) => (units[index].gap ? [' ', option] : [option])));
  }

  return {
    node,
    /** `chosen` is marked; `lit` has a share for each unit that looked at the box drawn on the picture, or is null. */
    show(units, chosen, lit) {
      if (units !== drawn) rebuild(units);
      active = chosen;
      const most = lit ? Math.max(...lit) : 0;
      options.forEach((option, index) => {
        const unit = units[index];
        const looked = lit ? `, ${percent(lit[index])} of its map in the box` : '';
        const bright = lit && most > 0 ? lit[index] / most : 0;
        option.classList.toggle('is-active', index === chosen);
        option.setAttribute('aria-selected', String(index === chosen));
        option.setAttribute('aria-label', `${readable(unit.text)}, ${unit.isPrompt ? 'prompt, ' : ''}${index + 1} of ${units.length}, ${percent(probability(unit.logProb))}${looked}`);
        option.style.setProperty('--lit', bright.toFixed(3));
        if (lit) option.dataset.share = percent(lit[index]);
        else delete option.dataset.share;
      });
      if (options[chosen]) node.setAttribute('aria-activedescendant', options[chosen].id);
      node.classList.toggle('is-lit', Boolean(lit));
    },
  };
}
