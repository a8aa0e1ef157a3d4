// One card a prompt. Words are tinted by their probability; hovering, focusing or clicking one shows what the
// model might have written instead.

const LEVELS = [[0.1, 'under 10 %'], [0.25, '10–25 %'], [0.5, '25–50 %'], [0.8, '50–80 %'], [Infinity, '80 % and more']];
const SHOW_SECONDS_AFTER = 1;
const own = `cs${Math.random().toString(36).slice(2, 9)}`;

const state = make('p', { class: 'cs-state', role: 'status' });
const clock = make('span', { class: 'cs-clock', 'aria-hidden': 'true' });
const stop = make('button', { type: 'button', class: 'cs-button cs-stop', onclick: () => trigger('stop_wanted') }, '■ Stop');
const busyBar = make('div', { class: 'cs-busy-bar', 'aria-hidden': 'true' });
const message = make('p', { class: 'cs-message' });
const legend = make('div', { class: 'cs-legend', role: 'img', 'aria-label': 'Legend: the longer a word’s underline and the bluer its tint, the likelier the word was to the model' },
  make('span', {}, 'word probability'),
  ...LEVELS.map(([, label], level) => make('span', { class: 'cs-token', 'data-level': level, style: `--p: ${[0.06, 0.18, 0.38, 0.65, 0.95][level]}` }, label)));
const list = make('ol', { class: 'cs-cards' });
const popover = make('div', { class: 'cs-popover', id: `${own}-popover`, role: 'tooltip', hidden: true });
root.classList.add('cs-caption-cards');
root.append(make('div', { class: 'cs-cards-head' }, state, clock, stop), busyBar, message, list, legend, popover);

let value = null;
let shown = null; // {row, index, pinned}: the word whose alternatives are shown

const probability = (logProb) => Math.exp(logProb);
const percent = (p) => (p < 0.005 ? '<1 %' : p > 0.995 && p < 1 ? '>99 %' : `${Math.round(p * 100)} %`);
const signed = (number) => (number < 0 ? `−${Math.abs(number).toFixed(2)}` : number.toFixed(2));
const levelOf = (p) => LEVELS.findIndex(([bound]) => p < bound);
const readable = (token) => token.trim() || (token ? 'space' : 'nothing');

// ---- words ----

function makeWord(row) {
  const word = make('span', { class: 'cs-token', role: 'option', 'aria-selected': 'false' });
  return { holder: make('span', { class: 'cs-word', role: 'presentation' }, document.createTextNode(''), word), word };
}

function drawWord(row, index, token, logProb) {
  const { holder, word } = row.words[index];
  const isPrompt = index < row.caption.num_prompt_tokens;
  const p = probability(logProb);
  const space = token.startsWith(' ') && index > 0 ? ' ' : '';
  if (holder.firstChild.data !== space) holder.firstChild.data = space;
  setText(word, token.trim() || '␣');
  word.id = `${row.id}-${index}`;
  word.classList.toggle('is-prompt', isPrompt);
  word.dataset.level = isPrompt ? '' : levelOf(p);
  word.style.setProperty('--p', isPrompt ? 0 : p.toFixed(3));
  word.setAttribute('aria-label', `${readable(token)}, ${isPrompt ? 'prompt, ' : ''}${percent(p)}`);
}

// ---- alternatives ----

function drawPopover(row, index) {
  const caption = row.caption;
  const [token, logProb] = caption.tokens[index];
  const choices = caption.alternatives ? caption.alternatives[index] || [] : [];
  const head = make('div', { class: 'cs-popover-head' },
    make('strong', {}, `“${readable(token)}”`),
    make('span', {}, `${percent(probability(logProb))}${index < caption.num_prompt_tokens ? ' · from your prompt' : ''}`));
  const rows = choices.map(([choice, choiceLogProb]) => {
    const p = probability(choiceLogProb);
    return make('li', { class: choice === token ? 'is-chosen' : '' },
      make('span', { class: 'cs-choice' }, readable(choice)),
      make('span', { class: 'cs-bar', 'aria-hidden': 'true' }, make('span', { style: `width: ${(p * 100).toFixed(1)}%` })),
      make('span', { class: 'cs-number' }, percent(p)));
  });
  popover.replaceChildren(head, rows.length
    ? make('ol', { class: 'cs-choices', 'aria-label': 'Likeliest words here' }, ...rows)
    : make('p', { class: 'cs-hint' }, 'Alternatives come when the captions are finished.'));
}

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
  popover.hidden = true;
}

function moveBy(row, event) {
  const last = row.caption.tokens.length - 1;
  if (last < 0) return;
  const at = shown && shown.row === row ? shown.index : -1;
  const start = Math.min(row.caption.num_prompt_tokens, last);
  const target = {
    ArrowRight: at < 0 ? start : Math.min(last, at + 1),
    ArrowLeft: at < 0 ? start : Math.max(0, at - 1),
    Home: 0,
    End: last,
    Enter: at < 0 ? start : at,
    ' ': at < 0 ? start : at,
  }[event.key];
  if (event.key === 'Escape') hide(true);
  if (target === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  show(row, target, true);
}

// ---- captions and cards ----

function makeRow(id) {
  const tag = make('span', { class: 'cs-tag' }, 'no prompt');
  const text = make('div', { class: 'cs-text', role: 'listbox', tabindex: '0', 'aria-describedby': popover.id, 'aria-orientation': 'horizontal' });
  const caret = make('span', { class: 'cs-caret', 'aria-hidden': 'true' });
  const bare = make('span', { class: 'cs-token is-prompt cs-bare', role: 'presentation' });
  const facts = make('span', { class: 'cs-facts', title: 'Mean natural log-probability of the written tokens (closer to 0 is surer), and the time until the caption was there' });
  const copy = make('button', { type: 'button', class: 'cs-button cs-copy', onclick: () => copyText(row) }, 'Copy');
  const row = { id, tag, text, caret, bare, facts, copy, words: [], caption: { tokens: [], num_prompt_tokens: 0 } };
  row.node = make('div', { class: 'cs-caption' }, make('div', { class: 'cs-line' }, tag, bare, text, caret), make('div', { class: 'cs-foot' }, facts, copy));
  const wordAt = (event) => {
    const word = event.target.closest('.cs-token');
    return word ? row.words.findIndex((known) => known.word === word) : -1;
  };
  text.addEventListener('pointermove', (event) => {
    if (event.pointerType !== 'mouse' || shown?.pinned) return;
    const index = wordAt(event);
    if (index < 0) hide();
    else if (!shown || shown.row !== row || shown.index !== index) show(row, index, false);
  });
  text.addEventListener('pointerleave', () => hide());
  text.addEventListener('click', (event) => {
    const index = wordAt(event);
    if (index < 0) return;
    if (shown?.pinned && shown.row === row && shown.index === index) hide(true);
    else show(row, index, true);
  });
  text.addEventListener('keydown', (event) => moveBy(row, event));
  text.addEventListener('blur', () => hide(true));
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

function drawRow(row, prompt, caption, phase, number, count) {
  row.caption = caption || { tokens: [], num_prompt_tokens: 0, text: '' };
  const { tokens } = row.caption;
  while (row.words.length > tokens.length) row.words.pop().holder.remove();
  while (row.words.length < tokens.length) {
    const word = makeWord(row);
    row.words.push(word);
    row.text.append(word.holder);
  }
  tokens.forEach(([token, logProb], index) => drawWord(row, index, token, logProb));
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
  const facts = [];
  if (tokens.length && phase !== 'busy') {
    if (row.caption.mean_log_prob !== null) facts.push(`mean log-prob ${signed(row.caption.mean_log_prob)}`);
    facts.push(`${row.caption.seconds.toFixed(row.caption.seconds < 10 ? 2 : 1)} s`);
  }
  setText(row.facts, facts.join(' · '));
}

function makeCard(index) {
  const rows = make('div', { class: 'cs-rows' });
  return { node: make('li', { class: 'cs-card' }, rows), holder: rows, rows: [], index };
}

function drawCard(card, data, phase) {
  const captions = data.captions.length ? data.captions : [null];
  while (card.rows.length > captions.length) card.rows.pop().node.remove();
  while (card.rows.length < captions.length) {
    const row = makeRow(`${own}-${card.index}-${card.rows.length}`);
    card.rows.push(row);
    card.holder.append(row.node);
  }
  captions.forEach((caption, number) => drawRow(card.rows[number], data.prompt, caption, phase, number, captions.length));
}

const cards = [];

function stateText() {
  if (value.phase === 'busy') return `${value.doing}…`;
  if (value.phase === 'stopped') return 'Stopped.';
  if (value.phase !== 'done') return '';
  return value.heading;
}

/** On a narrow screen the cards lie below everything that goes in: show that something happens. */
function bringIntoView() {
  if (window.innerWidth > 640 || root.getBoundingClientRect().top < window.innerHeight * 0.6) return;
  const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  requestAnimationFrame(() => root.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' }));
}

followValue((next) => {
  if (next.phase === 'busy' && value?.phase !== 'busy') bringIntoView();
  if (shown && (value?.phase !== next.phase || next.phase === 'busy')) hide(true);
  value = next;
  root.dataset.phase = value.phase;
  setText(state, stateText());
  setText(clock, (value.phase === 'busy' && value.seconds >= SHOW_SECONDS_AFTER) || value.phase === 'done' ? (value.seconds < 0.1 ? '<0.1 s' : `${value.seconds.toFixed(1)} s`) : '');
  const hadFocus = document.activeElement === stop;
  stop.hidden = value.phase !== 'busy';
  if (hadFocus && stop.hidden) root.querySelector('.cs-text[tabindex="0"]')?.focus();
  busyBar.hidden = value.phase !== 'busy';
  message.className = value.phase === 'failed' ? 'cs-message cs-error' : 'cs-message cs-empty';
  if (value.phase === 'failed') message.setAttribute('role', 'alert');
  else message.removeAttribute('role');
  setText(message, value.message || '');
  message.hidden = !value.message;
  while (cards.length > value.cards.length) cards.pop().node.remove();
  while (cards.length < value.cards.length) {
    const card = makeCard(cards.length);
    cards.push(card);
    list.append(card.node);
  }
  value.cards.forEach((data, index) => drawCard(cards[index], data, value.phase));
  list.hidden = !value.cards.length;
  legend.hidden = !value.cards.length;
});
