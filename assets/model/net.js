// What is inside a model, one panel each: facts, the way from pixels to words, memory by part, layers, all arrays.

import { hideKeepingFocus, make, setText, showMessage } from '../common/dom.js';
import { percent } from '../common/tokens.js';

const ROW_PIXELS = 26;
const COLUMNS = [['name', 'Array', 0], ['shape', 'Shape', 1], ['dtype', 'Type', 2], ['elements', 'Elements', 3]];

export function mount(part) {
  const { root, trigger, followValue } = part;
  const own = `cs${Math.random().toString(36).slice(2, 9)}`;
  const message = make('p', { class: 'cs-message' });
  const stop = make('button', { type: 'button', class: 'cs-button cs-stop', onclick: () => trigger('stop_wanted') }, '■ Stop');
  const panels = make('div', { class: 'cs-panels' });
  root.classList.add('cs-net');
  root.append(make('div', { class: 'cs-net-state' }, message, stop), panels);

  const whole = (number) => number.toLocaleString('en-US');
  const bytes = (number) => (number < 1e6 ? `${(number / 1e3).toFixed(1)} kB` : number < 1e9 ? `${(number / 1e6).toFixed(1)} MB` : `${(number / 1e9).toFixed(2)} GB`);
  const short = (number) => (number < 1e4 ? whole(number) : number < 1e6 ? `${(number / 1e3).toFixed(1)} k` : number < 1e9 ? `${(number / 1e6).toFixed(1)} M` : `${(number / 1e9).toFixed(2)} B`);

  function section(title, ...children) {
    return make('section', {}, make('h3', {}, title), ...children);
  }

  function drawHead(model) {
    const numbers = [['parameters', short(model.parameters), whole(model.parameters)], ['memory', bytes(model.bytes), `${whole(model.bytes)} bytes`], ['arrays', whole(model.arrays.length), '']];
    return make('div', { class: 'cs-net-head' },
      make('h2', {}, model.title),
      make('ul', { class: 'cs-net-numbers' }, ...numbers.map(([label, text, exact]) => make('li', { title: exact }, make('b', {}, text), ` ${label}`))));
  }

  function drawFacts(model) {
    return make('dl', { class: 'cs-net-facts' }, ...model.facts.flatMap(([label, text]) => [make('dt', {}, label), make('dd', {}, text)]));
  }

  function drawSteps(model) {
    return make('ol', { class: 'cs-steps' }, ...model.steps.map((step) => make('li', {},
      make('b', {}, step.title),
      make('span', { class: 'cs-shape' }, step.shape.join(' × ')),
      make('span', { class: 'cs-axes' }, step.axes ? `[${step.axes}]` : step.name),
      make('span', { class: 'cs-hint' }, step.meaning))));
  }

  function drawBars(rows) {
    const most = Math.max(1, ...rows.map((row) => row.size));
    return make('ul', { class: 'cs-bars' }, ...rows.map((row) => make('li', { title: row.title },
      make('span', { class: 'cs-bar-name' }, row.name, row.detail ? make('code', {}, row.detail) : null),
      make('span', { class: 'cs-bar', 'aria-hidden': 'true' }, make('span', { style: `width: ${(100 * row.size / most).toFixed(1)}%` })),
      make('span', { class: 'cs-number' }, row.text))));
  }

  function partBar(part, total) {
    const share = percent(part.num_bytes / total);
    return { name: part.role || part.name, detail: part.role ? part.name : '', size: part.num_bytes, text: `${bytes(part.num_bytes)} · ${share}`, title: `${whole(part.elements)} elements in ${part.arrays} arrays` };
  }

  // ---- arrays: only the rows in view exist ----


  function makeArrays(model, number) {
    const view = { rows: model.arrays, column: -1, down: false };
    const search = make('input', { type: 'search', class: 'cs-field', placeholder: 'search, e.g. decoder.layers.0', 'aria-label': `Search the arrays of ${model.title}`, autocomplete: 'off', spellcheck: 'false' });
    const count = make('span', { class: 'cs-hint', role: 'status' });
    const heads = COLUMNS.map(([, label, column]) => make('th', { scope: 'col', role: 'columnheader', 'aria-sort': 'none' },
      make('button', { type: 'button', onclick: () => sortBy(column) }, label, make('span', { class: 'cs-sort', 'aria-hidden': 'true' }))));
    const above = make('tr', { 'aria-hidden': 'true', class: 'cs-space' }, make('td', { colspan: COLUMNS.length }));
    const below = above.cloneNode(true);
    const body = make('tbody', {});
    const table = make('table', { class: 'cs-arrays', 'aria-rowcount': 0 }, make('caption', { class: 'cs-hidden' }, `All arrays of ${model.title}`), make('thead', {}, make('tr', {}, ...heads)), body);
    const frame = make('div', { class: 'cs-arrays-frame', tabindex: '0', role: 'region', 'aria-label': `Arrays of ${model.title}`, id: `${own}-${number}` }, table);

    function sortBy(column) {
      // Numbers begin with the largest, names with A; the third click restores the model's own order.
      const first = column === 3;
      if (view.column !== column) Object.assign(view, { column, down: first });
      else if (view.down === first) view.down = !first;
      else view.column = -1;
      heads.forEach((head, place) => head.setAttribute('aria-sort', place !== view.column ? 'none' : view.down ? 'descending' : 'ascending'));
      select();
    }

    function select() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      view.rows = model.arrays.filter(([name, shape, dtype]) => words.every((word) => `${name} ${shape} ${dtype}`.toLowerCase().includes(word)));
      if (view.column >= 0) {
        const sign = view.down ? -1 : 1;
        const key = (row) => row[view.column];
        view.rows = [...view.rows].sort((a, b) => sign * (view.column === 3 ? key(a) - key(b) : String(key(a)).localeCompare(String(key(b)), 'en', { numeric: true })));
      }
      const elements = view.rows.reduce((sum, row) => sum + row[3], 0);
      setText(count, words.length ? `${whole(view.rows.length)} of ${whole(model.arrays.length)} arrays · ${whole(elements)} elements` : `${whole(model.arrays.length)} arrays · ${whole(elements)} elements`);
      table.setAttribute('aria-rowcount', view.rows.length + 1);
      frame.scrollTop = 0;
      draw();
    }

    function draw() {
      const first = Math.max(0, Math.floor(frame.scrollTop / ROW_PIXELS) - 10);
      const last = Math.min(view.rows.length, first + Math.ceil((frame.clientHeight || 340) / ROW_PIXELS) + 24);
      const rows = view.rows.slice(first, last).map(([name, shape, dtype, elements], place) => make('tr', { 'aria-rowindex': first + place + 2 },
        make('td', { title: name }, make('code', {}, name)), make('td', {}, shape || '1'), make('td', {}, dtype), make('td', { class: 'cs-number' }, whole(elements))));
      above.style.height = `${first * ROW_PIXELS}px`;
      below.style.height = `${(view.rows.length - last) * ROW_PIXELS}px`;
      body.replaceChildren(above, ...rows, below);
    }

    search.addEventListener('input', select);
    frame.addEventListener('scroll', () => requestAnimationFrame(draw), { passive: true });
    select();
    return [make('div', { class: 'cs-row' }, search, count), frame];
  }

  function drawPanel(model, number) {
    return make('article', { class: 'cs-net-panel', 'aria-label': model.title },
      drawHead(model),
      section('From pixels to words', drawSteps(model)),
      make('div', { class: 'cs-net-columns' },
        section('Memory by part', drawBars(model.parts.map((part) => partBar(part, model.bytes)))),
        section('Layers by type', drawBars(model.layers.map(([name, count]) => ({ name, size: count, text: whole(count) })))),
        section('Card', drawFacts(model))),
      section('Arrays', ...makeArrays(model, number)));
  }

  followValue((value) => {
    root.dataset.phase = value.phase;
    showMessage(message, value.phase, value.phase === 'busy' ? `${value.message}…` : value.message, 'cs-hint');
    // What was shown stays where it was until there is something new.
    if (value.phase === 'done') {
      panels.classList.toggle('is-pair', value.models.length > 1);
      panels.replaceChildren(...value.models.map(drawPanel));
    }
    hideKeepingFocus(stop, value.phase !== 'busy', message, panels);
  });
}
