// One card a prompt. Choosing what the model might have written instead of a word continues the caption from there,
// beside the old one.

import { makeCaptionWords } from './caption_words.js';
import { hideKeepingFocus, make, setText, showDoing, showMessage } from './dom.js';
import { LEVELS, duration, readable, signed } from './tokens.js';

const SHOW_SECONDS_AFTER = 1;

export function mount(part) {
  const { root, trigger, followValue, bringIntoView } = part;
  let value = null;
  const words = makeCaptionWords(root, { endToken: () => value.end_token, branch: (choice) => trigger('branch_wanted', choice) });
  const state = make('p', { class: 'cs-state', role: 'status', tabindex: '-1' });
  const clock = make('span', { class: 'cs-clock', 'aria-hidden': 'true' });
  const stop = make('button', { type: 'button', class: 'cs-button cs-stop', onclick: () => trigger('stop_wanted') }, '■ Stop');
  const busyBar = make('div', { class: 'cs-busy-bar', 'aria-hidden': 'true' });
  const message = make('p', { class: 'cs-message' });
  const legend = make('div', { class: 'cs-legend', role: 'img', 'aria-label': 'Legend: the longer a word’s underline and the bluer its tint, the likelier the word was to the model' },
    make('span', {}, 'word probability'),
    ...LEVELS.map(([, label], level) => make('span', { class: 'cs-token', 'data-level': level, style: `--p: ${[0.06, 0.18, 0.38, 0.65, 0.95][level]}` }, label)));
  const list = make('ol', { class: 'cs-cards' });
  root.classList.add('cs-caption-cards');
  root.append(make('div', { class: 'cs-cards-head' }, state, clock, stop), busyBar, message, list, legend, words.popover);

  // ---- captions and cards ----

  function makeRow(id) {
    const tag = make('span', { class: 'cs-tag', dir: 'ltr' }, 'no prompt');
    const text = make('div', { class: 'cs-text', role: 'listbox', tabindex: '0', 'aria-describedby': words.popover.id, 'aria-orientation': 'horizontal' });
    const caret = make('span', { class: 'cs-caret', 'aria-hidden': 'true' });
    const bare = make('span', { class: 'cs-token is-prompt cs-bare', role: 'presentation' });
    const facts = make('span', { class: 'cs-facts', title: 'Mean natural log-probability of the written tokens (closer to 0 is surer), and the time until the caption was there' });
    const copy = make('button', { type: 'button', class: 'cs-button cs-copy', onclick: () => copyText(row) }, 'Copy');
    const look = make('button', { type: 'button', class: 'cs-button cs-look', title: 'See where the model looked for each word', 'aria-label': 'Open in Attention', onclick: () => trigger('attention_wanted', { caption: row.place, branch: row.branch }) }, 'Attention ↗');
    const story = make('p', { class: 'cs-story', hidden: true });
    const failure = make('p', { class: 'cs-error', role: 'alert', hidden: true });
    const drop = make('button', { type: 'button', class: 'cs-icon-button', 'aria-label': 'Remove this branch', title: 'Remove', hidden: true, onclick: () => trigger('branch_dropped', { caption: row.place, branch: row.branch }) }, '×');
    const row = { id, tag, text, caret, bare, facts, copy, look, story, failure, drop, place: 0, branch: -1, from: -1, words: [], branches: [], caption: { tokens: [], num_prompt_tokens: 0 } };
    row.node = make('div', { class: 'cs-caption' }, story, make('div', { class: 'cs-line', dir: 'auto' }, tag, bare, text, caret), failure, make('div', { class: 'cs-foot' }, facts, look, copy, drop));
    const wordAt = (event) => {
      const word = event.target.closest('.cs-token');
      return word ? row.words.findIndex((known) => known.word === word) : -1;
    };
    text.addEventListener('pointermove', (event) => {
      const shown = words.shown();
      if (event.pointerType !== 'mouse' || shown?.pinned) return;
      const index = wordAt(event);
      if (index < 0) words.hide();
      else if (!shown || shown.row !== row || shown.index !== index) words.show(row, index, false);
    });
    text.addEventListener('pointerleave', () => words.hide());
    text.addEventListener('click', (event) => {
      const [index, shown] = [wordAt(event), words.shown()];
      if (index < 0) return;
      if (shown?.pinned && shown.row === row && shown.index === index) words.hide(true);
      else words.show(row, index, true);
    });
    text.addEventListener('keydown', (event) => words.moveBy(row, event));
    text.addEventListener('blur', (event) => { if (!words.popover.contains(event.relatedTarget)) words.hide(true); });
    return row;
  }

  async function copyText(row) {
    try {
      await navigator.clipboard.writeText(row.caption.text);
      row.copy.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(row.text);
      row.copy.textContent = 'Selected';
    }
    setTimeout(() => { row.copy.textContent = 'Copy'; }, 1500);
  }

  /** Whether the popover would say the same of both. */
  const saysTheSame = (one, other) => JSON.stringify([one.tokens, one.alternatives]) === JSON.stringify([other.tokens, other.alternatives]);

  function drawRow(row, prompt, caption, phase, number, count) {
    const before = row.caption;
    row.caption = caption || { tokens: [], num_prompt_tokens: 0, text: '' };
    if (words.shown()?.row === row && !saysTheSame(before, row.caption)) words.hide(true);
    const { tokens } = row.caption;
    while (row.words.length > tokens.length) row.words.pop().holder.remove();
    while (row.words.length < tokens.length) {
      const word = words.makeWord();
      row.words.push(word);
      row.text.append(word.holder);
    }
    tokens.forEach(([token, logProb], index) => words.drawWord(row, index, token, logProb));
    const title = prompt ? `Caption for the prompt ${prompt}` : 'Caption without a prompt';
    row.text.setAttribute('aria-label', `${title}${count > 1 ? `, number ${number + 1}` : ''}: ${row.caption.text || 'not written yet'}`);
    // A listbox must have options: it is one only when there are words.
    row.text.setAttribute('role', tokens.length ? 'listbox' : 'presentation');
    row.text.tabIndex = tokens.length ? 0 : -1;
    row.tag.hidden = Boolean(prompt);
    setText(row.bare, tokens.length ? '' : prompt);
    row.bare.hidden = tokens.length > 0 || !prompt;
    row.caret.hidden = phase !== 'busy';
    row.copy.hidden = phase === 'busy' || !row.caption.text;
    row.look.hidden = phase !== 'done' || !value.can_look || !tokens.length;
    const facts = [];
    if ((tokens.length || row.caption.note) && phase !== 'busy') {
      if (row.caption.mean_log_prob !== null) facts.push(`mean log-prob ${signed(row.caption.mean_log_prob)}`);
      facts.push(`${row.caption.seconds.toFixed(row.caption.seconds < 10 ? 2 : 1)} s`);
      if (row.caption.note) facts.push(row.caption.note);
    }
    setText(row.facts, facts.join(' · '));
  }

  /** What one prompt's caption became from other words, right of it. None can be removed while one is being written. */
  function drawBranches(card, number, place, prompt, branches, branching) {
    const row = card.rows[number];
    while (row.branches.length > branches.length) row.branches.pop().node.remove();
    while (row.branches.length < branches.length) {
      const added = makeRow(`${row.id}-b${row.branches.length}`);
      added.branch = row.branches.length;
      row.branches.push(added);
      row.side.append(added.node);
    }
    row.side.hidden = !branches.length;
    row.pair.classList.toggle('has-branches', branches.length > 0);
    branches.forEach((data, index) => {
      const added = row.branches[index];
      added.place = place;
      added.from = data.caption && data.caption.tokens.length > data.position ? data.position : -1;
      drawRow(added, prompt, data.caption, data.writing ? 'busy' : 'done', index, branches.length);
      added.story.replaceChildren('with ', make('b', {}, `“${words.named(data.chosen)}”`), ` instead of “${readable(data.instead)}”`);
      added.story.hidden = false;
      added.tag.hidden = true;
      added.bare.hidden = true;
      setText(added.failure, data.error);
      added.failure.hidden = !data.error;
      added.drop.hidden = branching;
    });
  }

  function makeCard(index) {
    const rows = make('div', { class: 'cs-rows' });
    return { node: make('li', { class: 'cs-card' }, rows), holder: rows, rows: [], index };
  }

  function drawCard(card, data, phase, first, branching) {
    const captions = data.captions.length ? data.captions : [null];
    while (card.rows.length > captions.length) card.rows.pop().pair.remove();
    while (card.rows.length < captions.length) {
      const row = makeRow(`${words.own}-${card.index}-${card.rows.length}`);
      row.side = make('div', { class: 'cs-branches', role: 'group', 'aria-label': 'Other ways on', hidden: true });
      row.pair = make('div', { class: 'cs-pair' }, row.node, row.side);
      card.rows.push(row);
      card.holder.append(row.pair);
    }
    captions.forEach((caption, number) => {
      card.rows[number].place = first + number;
      drawRow(card.rows[number], data.prompt, caption, phase, number, captions.length);
      drawBranches(card, number, first + number, data.prompt, caption?.branches || [], branching);
    });
  }

  const cards = [];

  function stateText() {
    if (value.phase === 'busy') return `${value.doing}…`;
    if (value.phase === 'stopped') return 'Stopped.';
    if (value.phase !== 'done') return '';
    return value.heading;
  }

  followValue((next) => {
    const branching = next.cards.some((card) => card.captions.some((caption) => caption?.branches?.some((other) => other.writing)));
    // A short run may be over before the page hears that it began.
    const isNews = value && value.phase !== 'busy' && value.phase !== next.phase;
    if (isNews && (next.phase === 'busy' || next.phase === 'done')) bringIntoView();
    value = next;
    root.dataset.phase = value.phase;
    showDoing(state, stateText(), value.phase === 'busy');
    setText(clock, (value.phase === 'busy' && value.seconds >= SHOW_SECONDS_AFTER) || value.phase === 'done' ? duration(value.seconds) : '');
    busyBar.hidden = value.phase !== 'busy';
    showMessage(message, value.phase, value.message);
    while (cards.length > value.cards.length) cards.pop().node.remove();
    while (cards.length < value.cards.length) {
      const card = makeCard(cards.length);
      cards.push(card);
      list.append(card.node);
    }
    let first = 0;
    value.cards.forEach((data, index) => {
      drawCard(cards[index], data, value.phase, first, branching);
      first += data.captions.length;
    });
    if (words.shown() && !words.shown().row.node.isConnected) words.hide(true);
    words.follow();
    list.hidden = !value.cards.length;
    hideKeepingFocus(stop, value.phase !== 'busy' && !branching, ...root.querySelectorAll('.cs-text[tabindex="0"]'), state, message);
    legend.hidden = !value.cards.length;
  });
}
