// A typed caption as a decoder meets it in training: what it sees, what it should say, and what it would have said.

import { make, setText, showMessage } from '../common/dom.js';
import { percent, probability, readable, signed } from '../common/tokens.js';

export function mount(part) {
  const { root, followValue } = part;
  const message = make('p', { class: 'cs-message' });
  const heading = make('p', { class: 'cs-state', role: 'status' });
  const facts = make('p', { class: 'cs-hint' });
  const body = make('tbody', {});
  const table = make('table', { class: 'cs-forcing-table' },
    make('caption', { class: 'cs-hidden' }, 'The caption position by position'),
    make('thead', {}, make('tr', {}, ...['', 'Decoder input', 'Label', 'Its probability', 'The model would say', 'Its probability'].map((text) => make('th', { scope: 'col' }, text || make('span', { class: 'cs-hidden' }, 'Position'))))),
    body);
  const frame = make('div', { class: 'cs-forcing-frame', tabindex: '0', role: 'region', 'aria-label': 'Teacher forcing' }, table);
  root.classList.add('cs-forcing');
  root.append(message, heading, facts, frame);

  function chance(logProb, isSure) {
    const p = probability(logProb);
    return make('td', { class: 'cs-chance' },
      make('span', { class: 'cs-bar', 'aria-hidden': 'true' }, make('span', { class: isSure ? '' : 'is-unsure', style: `width: ${(p * 100).toFixed(1)}%` })),
      make('span', { class: 'cs-number' }, percent(p)));
  }

  function makeRow(row, place, promptTokens) {
    const isPrompt = place < promptTokens;
    const [inputId, labelId, guessId] = row.ids;
    return make('tr', { class: isPrompt ? 'is-prompt' : '' },
      make('th', { scope: 'row' }, String(place + 1)),
      make('td', { title: `number ${inputId}`, dir: 'auto' }, readable(row.input)),
      make('td', { title: `number ${labelId}` }, make('b', { dir: 'auto' }, readable(row.label)), isPrompt ? make('span', { class: 'cs-tag' }, 'prompt') : null),
      chance(row.log_prob, row.agrees),
      make('td', { title: `number ${guessId}`, class: row.agrees ? 'is-same' : 'is-other' }, row.agrees ? '= the label' : readable(row.guess)),
      chance(row.guess_log_prob, true));
  }

  followValue((value) => {
    const isDone = value.phase === 'done';
    root.dataset.phase = value.phase;
    showMessage(message, value.phase, value.message, value.phase === 'busy' ? 'cs-hint' : 'cs-empty');
    frame.hidden = !isDone;
    setText(heading, isDone ? value.heading : '');
    setText(facts, '');
    if (!isDone) return;
    const scored = value.rows.slice(value.num_prompt_tokens);
    const mean = scored.reduce((sum, row) => sum + row.log_prob, 0) / scored.length;
    const agreed = scored.filter((row) => row.agrees).length;
    setText(facts, `mean log-prob ${signed(mean)} · perplexity ${Math.exp(-mean).toFixed(1)} · the model agrees on ${agreed} of ${scored.length} tokens after the prompt`);
    body.replaceChildren(...value.rows.map((row, place) => makeRow(row, place, value.num_prompt_tokens)));
  });
}
