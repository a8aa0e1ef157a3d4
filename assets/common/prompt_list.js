// The editable list of prompts. The empty one is a caption without a prompt.

import { make, setText } from './dom.js';

export function mount(part) {
  const { root, props, trigger, followValue } = part;
  const list = make('ol', { class: 'cs-prompts' });
  const refusal = make('p', { class: 'cs-hint', role: 'status' });
  const count = make('span', { class: 'cs-hint' });
  const add = make('button', { type: 'button', class: 'cs-button', onclick: () => addPrompts(['']) }, '+ Add');
  const reset = make('button', { type: 'button', class: 'cs-button', onclick: () => setPrompts([...current.defaults]) }, 'Reset');
  const fields = make('fieldset', { class: 'cs-prompt-fields' },
    make('legend', {}, 'Prompts'), list, make('div', { class: 'cs-row' }, add, reset, count));
  root.classList.add('cs-prompt-list');
  root.append(fields, refusal);

  let current = { prompts: [], defaults: [], refusal: '' };

  /** Tell the server's side; the next event that takes the list as input carries it. */
  function keep(prompts) {
    current = { ...current, prompts };
    props.value = current;
    setText(count, prompts.length > 8 ? `${prompts.length} prompts` : '');
  }

  function setPrompts(prompts, focus = null) {
    keep(prompts);
    draw();
    if (focus !== null && list.children[focus]) list.children[focus].querySelector('input').focus();
  }

  function addPrompts(prompts, at = current.prompts.length) {
    const next = [...current.prompts];
    next.splice(at, 0, ...prompts);
    setPrompts(next, at + prompts.length - 1);
    if (at + prompts.length === next.length) list.scrollTop = list.scrollHeight;
  }

  function removePrompt(index) {
    const next = current.prompts.filter((_, place) => place !== index);
    setPrompts(next, Math.min(index, next.length - 1));
    if (!next.length) add.focus();
  }

  /** Several lines pasted at once become several prompts. */
  function paste(event, index) {
    const lines = (event.clipboardData?.getData('text/plain') || '').split(/\r?\n/).map((line) => line.trim());
    const several = lines.filter((line) => line);
    if (several.length < 2) return;
    event.preventDefault();
    const next = [...current.prompts];
    next.splice(index, current.prompts[index] ? 0 : 1, ...several);
    setPrompts(next, index);
  }

  function makeRow(index) {
    const field = make('input', {
      type: 'text', class: 'cs-field', dir: 'auto', placeholder: 'no prompt', autocomplete: 'off', spellcheck: 'false',
      oninput: () => keep(current.prompts.map((prompt, place) => (place === index ? field.value : prompt))),
      onpaste: (event) => paste(event, index),
      onkeydown: (event) => {
        if (event.isComposing) return;
        if (event.key === 'Enter') { event.preventDefault(); trigger('captions_wanted'); }
      },
    });
    const remove = make('button', { type: 'button', class: 'cs-icon-button', onclick: () => removePrompt(index) }, '×');
    return make('li', {}, field, remove);
  }

  function draw() {
    const { prompts } = current;
    while (list.children.length > prompts.length) list.lastChild.remove();
    while (list.children.length < prompts.length) list.append(makeRow(list.children.length));
    prompts.forEach((prompt, index) => {
      const [field, remove] = list.children[index].children;
      if (field.value !== prompt) field.value = prompt;
      field.setAttribute('aria-label', `Prompt ${index + 1}`);
      remove.setAttribute('aria-label', `Remove prompt ${index + 1}`);
      remove.title = 'Remove';
    });
    setText(refusal, current.refusal || '');
    refusal.hidden = !current.refusal;
    fields.disabled = Boolean(current.refusal);
  }

  let isFilled = false;
  followValue((value) => {
    if (value === current) return;
    // The server says the prompts as it last heard them, for a list that is only now drawn; here, more may have been typed.
    const { prompts, defaults } = isFilled ? current : value;
    current = { prompts: [...prompts], defaults, refusal: value.refusal };
    if (isFilled) keep(current.prompts);
    isFilled = true;
    draw();
  });
}
