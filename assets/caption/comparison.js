// Captions of several models, one column a model and one row a prompt; on narrow screens one below the other.

import { hideKeepingFocus, make, setText, showDoing } from '../common/dom.js';
import { duration, levelOf, percent, probability, signed } from '../common/tokens.js';

const WAITING = { waiting: 'waits for its turn', working: 'at work', done: '', failed: '' };

export function mount(part) {
  const { root, trigger, followValue, bringIntoView } = part;
  const state = make('p', { class: 'cs-comparison-state', role: 'status' });
  const clock = make('span', { class: 'cs-clock', 'aria-hidden': 'true' });
  const stop = make('button', { type: 'button', class: 'cs-button cs-stop', onclick: () => trigger('stop_wanted') }, '■ Stop');
  const busyBar = make('div', { class: 'cs-busy-bar', 'aria-hidden': 'true' });
  const message = make('p', { class: 'cs-error', role: 'alert' });
  // Roles are said again because a table that is drawn as blocks loses them.
  const table = make('table', { class: 'cs-comparison-table', role: 'table', 'aria-label': 'Captions by model and prompt' });
  root.classList.add('cs-comparison');
  root.append(make('div', { class: 'cs-cards-head' }, state, clock, stop), busyBar, message, table);


  function drawWords(caption) {
    return caption.tokens.flatMap(([token, logProb], index) => {
      const isPrompt = index < caption.num_prompt_tokens;
      const p = probability(logProb);
      const word = make('span', { class: isPrompt ? 'cs-token is-prompt' : 'cs-token', 'data-level': isPrompt ? null : levelOf(p), style: `--p: ${isPrompt ? 0 : p.toFixed(3)}`, title: `${percent(p)}` }, token.trim() || '␣');
      return [token.startsWith(' ') && index ? ' ' : '', word];
    });
  }

  function makeCell(model, caption, span) {
    const parts = [make('span', { class: 'cs-cell-model', 'aria-hidden': 'true' }, model.title)];
    if (model.error) parts.push(make('span', { class: 'cs-error' }, model.error));
    else if (caption) {
      const mean = caption.mean_log_prob === null ? '' : `mean log-prob ${signed(caption.mean_log_prob)}`;
      parts.push(make('span', { class: 'cs-words', dir: 'auto' }, ...drawWords(caption)));
      if (model.state === 'done') parts.push(make('span', { class: 'cs-facts' }, [mean, duration(caption.seconds)].filter(Boolean).join(' · ')));
    } else parts.push(make('span', { class: 'cs-hint' }, WAITING[model.state]));
    return make('td', { role: 'cell', rowspan: span > 1 ? span : null }, ...parts);
  }

  function makeHead(models) {
    const cells = models.map((model) => make('th', { role: 'columnheader', scope: 'col', title: model.model_id },
      model.title, model.takes_prompts ? null : make('span', { class: 'cs-tag' }, 'takes no prompt')));
    return make('thead', { role: 'rowgroup' }, make('tr', { role: 'row' }, make('th', { role: 'columnheader', scope: 'col' }, 'Prompt'), ...cells));
  }

  function draw(value) {
    const rows = value.prompts.map((prompt, number) => {
      const cells = value.models.map((model) => {
        // One cell for all prompts where there is one caption, or one sentence, for all of them.
        const single = Boolean(model.error) || !model.takes_prompts;
        if (single && number) return null;
        return makeCell(model, model.captions[number], single ? value.prompts.length : 1);
      });
      const head = prompt || make('span', { class: 'cs-tag' }, 'no prompt');
      return make('tr', { role: 'row' }, make('th', { role: 'rowheader', scope: 'row', dir: prompt ? 'auto' : null }, head), ...cells);
    });
    table.replaceChildren(makeHead(value.models), make('tbody', { role: 'rowgroup' }, ...rows));
  }

  let phase = 'idle';

  followValue((value) => {
    root.hidden = value.phase === 'idle';
    root.dataset.phase = value.phase;
    const texts = { busy: `${value.doing}…`, stopped: 'Stopped.', done: `${value.picture} · ${value.models.length} models` };
    showDoing(state, texts[value.phase] || '', value.phase === 'busy');
    setText(clock, value.phase === 'busy' || value.phase === 'done' ? duration(value.seconds) : '');
    busyBar.hidden = value.phase !== 'busy';
    setText(message, value.message);
    message.hidden = !value.message;
    hideKeepingFocus(stop, value.phase !== 'busy', state, message);
    table.hidden = !value.models.length;
    draw(value);
    if (phase !== 'busy' && (value.phase === 'busy' || value.phase === 'failed')) bringIntoView(true);
    phase = value.phase;
  });
}
