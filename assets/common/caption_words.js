// Words of captions, tinted by their probability; hovering, focusing or clicking one shows what the model might have
// written instead. `caption_cards.js` puts them on its cards.

import { make, setText } from './dom.js';
import { levelOf, percent, probability, readable } from './tokens.js';

/**
 * The words of one part's captions. `on.endToken()` is the text of the token that ends a caption, or null, and
 * `on.branch(choice)` hears the alternative that was chosen.
 */
export function makeCaptionWords(root, on) {
  const own = `cs${Math.random().toString(36).slice(2, 9)}`;
  const popover = make('div', { class: 'cs-popover', id: `${own}-popover`, role: 'group', 'aria-label': 'Likeliest words here', hidden: true });
  let shown = null; // {row, index, pinned}: the word whose alternatives are shown

  const named = (token) => (token === on.endToken() ? 'end of caption' : readable(token));

  // ---- words ----

  function makeWord() {
    const word = make('span', { class: 'cs-token', role: 'option', 'aria-selected': 'false' });
    return { holder: make('span', { class: 'cs-word', role: 'presentation' }, document.createTextNode(''), word), word };
  }

  function drawWord(row, index, token, logProb) {
    const { holder, word } = row.words[index];
    const isPrompt = index < row.caption.num_prompt_tokens;
    const p = probability(logProb);
    const space = token.startsWith(' ') && index > 0 ? ' ' : '';
    if (holder.firstChild.data !== space) holder.firstChild.data = space;
    const spelt = isPrompt ? row.caption.typed?.[index] ?? token : token;
    holder.hidden = token === ''; // a byte of the character before it
    setText(word, spelt.trim() || '␣');
    word.id = `${row.id}-${index}`;
    word.classList.toggle('is-prompt', isPrompt);
    word.classList.toggle('is-kept', index < row.from);
    word.classList.toggle('is-forced', index === row.from);
    word.dataset.level = isPrompt ? '' : levelOf(p);
    word.style.setProperty('--p', isPrompt ? 0 : p.toFixed(3));
    word.setAttribute('aria-label', `${readable(spelt)}, ${isPrompt ? 'prompt, ' : ''}${percent(p)}`);
  }

  // ---- alternatives ----

  function drawPopover(row, index) {
    const caption = row.caption;
    const [token, logProb] = caption.tokens[index];
    const choices = caption.alternatives ? caption.alternatives[index] || [] : [];
    const head = make('div', { class: 'cs-popover-head' },
      make('strong', {}, `“${readable(token)}”`),
      make('span', {}, `${percent(probability(logProb))}${index < caption.num_prompt_tokens ? ' · from your prompt' : ''}`));
    const canBranch = on.endToken() !== null && Boolean(caption.alternatives);
    const rows = choices.map(([choice, choiceLogProb], number) => {
      const p = probability(choiceLogProb);
      const parts = [
        make('span', { class: 'cs-choice', dir: 'auto' }, named(choice)),
        make('span', { class: 'cs-bar', 'aria-hidden': 'true' }, make('span', { style: `width: ${(p * 100).toFixed(1)}%` })),
        make('span', { class: 'cs-number' }, percent(p)),
      ];
      if (choice === token || !canBranch) return make('li', { class: choice === token ? 'is-chosen' : '' }, ...parts);
      const label = `Go on with ${named(choice)} instead, ${percent(p)}`;
      return make('li', {}, make('button', { type: 'button', class: 'cs-branch', 'aria-label': label, onclick: () => branch(row, index, number) }, ...parts));
    });
    popover.replaceChildren(head, rows.length
      ? make('ol', { class: 'cs-choices' }, ...rows)
      : make('p', { class: 'cs-hint' }, 'Alternatives come when the captions are finished.'));
    if (rows.length && canBranch) popover.append(make('p', { class: 'cs-hint' }, shown.pinned ? 'Choose a word to go on from it.' : 'Click the word to go on from another.'));
  }

  function branch(row, index, choice) {
    hide(true);
    row.text.focus();
    on.branch({ caption: row.place, branch: row.branch, position: index, choice });
  }

  /** Up and down between the choices; Escape goes back to the word. */
  function moveAmongChoices(event) {
    const buttons = [...popover.querySelectorAll('button')];
    const at = buttons.indexOf(document.activeElement);
    const target = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (target !== undefined) {
      event.preventDefault();
      event.stopPropagation();
      if (target < 0) shown.row.text.focus();
      else buttons[Math.min(target, buttons.length - 1)].focus();
    }
    if (event.key === 'Escape' && shown) {
      hide(true);
    }
  }
  popover.addEventListener('keydown', moveAmongChoices);
  popover.addEventListener('focusout', (event) => {
    if (shown && !popover.contains(event.relatedTarget) && event.relatedTarget !== shown.row.text) hide(true);
  });
  // The word keeps the focus while the mouse is used.
  popover.addEventListener('pointerdown', (event) => event.preventDefault());
  popover.addEventListener('mousedown', (event) => event.preventDefault());

  function placePopover(word) {
    const frame = root.getBoundingClientRect();
    const box = word.getClientRects()[0] || word.getBoundingClientRect();
    const width = popover.offsetWidth;
    const left = Math.max(0, Math.min(box.left - frame.left, frame.width - width));
    const below = box.bottom - frame.top + 6;
    const fits = box.bottom + popover.offsetHeight + 12 < window.innerHeight;
    const above = box.top - frame.top - popover.offsetHeight - 6;
    popover.style.left = `${left}px`;
    popover.style.top = `${fits || box.top < popover.offsetHeight + 12 ? below : above}px`;
  }

  function show(row, index, pinned) {
    if (!row.caption.tokens[index]) return;
    hide(true);
    shown = { row, index, pinned };
    const { word } = row.words[index];
    word.classList.add('is-active');
    word.setAttribute('aria-selected', 'true');
    row.text.setAttribute('aria-activedescendant', word.id);
    drawPopover(row, index);
    popover.classList.toggle('is-pinned', pinned);
    popover.hidden = false;
    placePopover(word);
  }

  function hide(evenIfPinned = false) {
    if (!shown || (shown.pinned && !evenIfPinned)) return;
    const { row, index } = shown;
    const word = row.words[index]?.word;
    word?.classList.remove('is-active');
    word?.setAttribute('aria-selected', 'false');
    row.text.removeAttribute('aria-activedescendant');
    shown = null;
    if (popover.contains(document.activeElement)) row.text.focus();
    popover.hidden = true;
  }

  function moveBy(row, event) {
    const last = row.caption.tokens.length - 1;
    if (last < 0) return;
    const at = shown && shown.row === row ? shown.index : -1;
    const start = Math.min(row.caption.num_prompt_tokens, last);
    // Arrows follow the eye, also where words run from right to left.
    const [left, right] = getComputedStyle(row.text).direction === 'rtl' ? ['ArrowRight', 'ArrowLeft'] : ['ArrowLeft', 'ArrowRight'];
    const target = {
      [right]: at < 0 ? start : Math.min(last, at + 1),
      [left]: at < 0 ? start : Math.max(0, at - 1),
      Home: 0,
      End: last,
      Enter: at < 0 ? start : at,
      ' ': at < 0 ? start : at,
    }[event.key];
    if (event.key === 'Escape') hide(true);
    if (event.key === 'ArrowDown' && at >= 0 && !popover.hidden) {
      event.preventDefault();
      popover.querySelector('button')?.focus();
    }
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    show(row, target, true);
  }

  /** Put the popover to its word, which may have moved. */
  const follow = () => { if (shown) placePopover(shown.row.words[shown.index].word); };

  return { own, popover, named, makeWord, drawWord, show, hide, moveBy, follow, shown: () => shown };
}
