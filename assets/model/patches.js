// The picture as the model receives it: a grid of patches with gaps, and the same patches as a sequence.

import { make, setText, showMessage } from '../common/dom.js';

const GAP = 2;
const LINE_GAP = 9;
const NUMBERS = 34; // room for the number that a line of the sequence begins with

export function mount(part) {
  const { root, followValue } = part;
  const message = make('p', { class: 'cs-message' });
  const heading = make('p', { class: 'cs-state', role: 'status' });
  const facts = make('p', { class: 'cs-hint' });
  const grid = make('canvas', { class: 'cs-grid', 'aria-hidden': 'true' });
  const where = make('p', { class: 'cs-where' });
  const sequence = make('canvas', { class: 'cs-sequence', 'aria-hidden': 'true' });
  const pick = make('div', { class: 'cs-pick', role: 'slider', tabindex: '0', 'aria-label': 'Patch', 'aria-valuemin': '1', onkeydown: move }, grid);
  const zoom = make('canvas', { class: 'cs-zoom', width: 96, height: 96, 'aria-hidden': 'true' });
  const view = make('div', { class: 'cs-patch-view' },
    make('figure', {}, pick, make('figcaption', { class: 'cs-hint' }, 'as a grid: point at a patch, or move with the arrow keys')),
    make('figure', {}, make('div', { class: 'cs-patch-one' }, zoom, where), sequence, make('figcaption', { class: 'cs-hint' }, 'as the sequence that the encoder reads')));
  root.classList.add('cs-patches');
  root.append(message, heading, facts, view);

  let value = null;
  let picture = null;
  let chosen = 0;
  let columns = 1;

  const isDark = () => document.body.classList.contains('dark');

  /** Pixels of the picture that a patch shows: left, top, width, height. */
  function area(index) {
    const [left, top, right, bottom] = value.cells[index];
    return [left * picture.width, top * picture.height, Math.max(0, right - left) * picture.width, Math.max(0, bottom - top) * picture.height];
  }

  function drawGrid() {
    const scale = Math.max(1, Math.min(4, Math.round(640 / picture.width)));
    grid.width = picture.width * scale;
    grid.height = picture.height * scale;
    const canvas = grid.getContext('2d');
    canvas.imageSmoothingEnabled = false;
    if (!value.columns) canvas.drawImage(picture, 0, 0, grid.width, grid.height);
    const gap = value.columns ? Math.max(1, Math.min(GAP * 2, Math.round((grid.width / value.columns) * 0.08))) : 0;
    value.cells.forEach((_, index) => {
      const [x, y, width, height] = area(index);
      const target = [x * scale, y * scale, width * scale - gap, height * scale - gap];
      if (value.columns && target[2] > 0 && target[3] > 0) canvas.drawImage(picture, x, y, width, height, ...target);
    });
    canvas.lineWidth = Math.max(3, grid.width / 180);
    canvas.strokeStyle = isDark() ? '#2dd4bf' : '#0f766e';
    const [x, y, width, height] = area(chosen);
    canvas.strokeRect(x * scale - gap / 2, y * scale - gap / 2, width * scale, height * scale);
  }

  function drawSequence() {
    const count = value.cells.length + value.prefix;
    const width = sequence.clientWidth || 480;
    const room = width - NUMBERS;
    const side = Math.max(11, Math.min(40, Math.floor(Math.sqrt((room * 300) / count)) - GAP));
    columns = Math.max(1, Math.floor((room + GAP) / (side + GAP)));
    const sharp = Math.min(3, window.devicePixelRatio || 1);
    sequence.width = width * sharp;
    sequence.height = (Math.ceil(count / columns) * (side + LINE_GAP)) * sharp;
    sequence.style.height = `${sequence.height / sharp}px`;
    const canvas = sequence.getContext('2d');
    canvas.scale(sharp, sharp);
    canvas.lineWidth = 2;
    canvas.strokeStyle = isDark() ? '#2dd4bf' : '#0f766e';
    canvas.font = '12px system-ui, sans-serif';
    canvas.textAlign = 'right';
    canvas.textBaseline = 'middle';
    for (let place = 0; place < count; place += 1) {
      const [x, y] = [NUMBERS + (place % columns) * (side + GAP), Math.floor(place / columns) * (side + LINE_GAP)];
      const index = place - value.prefix;
      if (place % columns === 0) {
        canvas.fillStyle = isDark() ? '#a1a1aa' : '#52525b';
        canvas.fillText(String(place + 1), NUMBERS - 7, y + side / 2);
      }
      if (index < 0) {
        canvas.fillStyle = isDark() ? '#3a4046' : '#d4d4d8';
        canvas.fillRect(x, y, side, side);
      } else {
        const [left, top, wide, high] = area(index);
        if (wide > 0 && high > 0) canvas.drawImage(picture, left, top, wide, high, x, y, side, side);
        if (index === chosen) canvas.strokeRect(x + 1, y + 1, side - 2, side - 2);
      }
    }
    sequence.dataset.side = side;
  }

  function drawOne() {
    const canvas = zoom.getContext('2d');
    const [x, y, width, height] = area(chosen);
    canvas.clearRect(0, 0, 96, 96);
    canvas.imageSmoothingEnabled = false;
    if (width > 0 && height > 0) canvas.drawImage(picture, x, y, width, height, 0, 0, 96, 96);
    const place = value.columns ? `row ${Math.floor(chosen / value.columns) + 1}, column ${(chosen % value.columns) + 1}` : 'in its tile';
    const before = value.prefix ? `, after ${value.prefix} prefix token${value.prefix > 1 ? 's' : ''}` : '';
    const text = `patch ${chosen + 1} of ${value.cells.length}: ${place}`;
    where.replaceChildren(make('b', {}, `Patch ${chosen + 1}`), ` of ${value.cells.length}`, make('br'), place, make('br'), `number ${chosen + 1 + value.prefix} in the sequence${before}`);
    pick.setAttribute('aria-valuenow', chosen + 1);
    pick.setAttribute('aria-valuetext', text);
  }

  function draw() {
    if (!picture || !value.cells) return;
    drawGrid();
    drawSequence();
    drawOne();
  }

  function choose(index) {
    const next = Math.max(0, Math.min(value.cells.length - 1, index));
    if (next === chosen) return;
    chosen = next;
    draw();
  }

  function move(event) {
    if (!picture) return;
    const row = value.columns || 1;
    const target = { ArrowRight: chosen + 1, ArrowLeft: chosen - 1, ArrowDown: chosen + row, ArrowUp: chosen - row, Home: 0, End: value.cells.length - 1 }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (target >= 0 && target < value.cells.length) choose(target);
  }

  grid.addEventListener('pointermove', (event) => {
    const box = grid.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const index = value.cells.findIndex(([left, top, right, bottom]) => x >= left && x < right && y >= top && y < bottom);
    if (index >= 0) choose(index);
  });
  sequence.addEventListener('pointermove', (event) => {
    const box = sequence.getBoundingClientRect();
    const side = Number(sequence.dataset.side);
    const column = Math.floor((event.clientX - box.left - NUMBERS) / (side + GAP));
    const row = Math.floor((event.clientY - box.top) / (side + LINE_GAP));
    const index = row * columns + column - value.prefix;
    if (column >= 0 && column < columns && index >= 0 && index < value.cells.length) choose(index);
  });
  new ResizeObserver(() => { if (sequence.clientWidth) requestAnimationFrame(draw); }).observe(root);

  followValue((next) => {
    value = next;
    const isDone = value.phase === 'done';
    showMessage(message, value.phase, value.message, value.phase === 'busy' ? 'cs-hint' : 'cs-empty');
    if (!isDone) root.dataset.phase = value.phase; // done is said when the picture is there
    view.hidden = true;
    setText(heading, isDone ? `${value.name} as ${value.title} receives it` : '');
    setText(facts, isDone ? value.facts : '');
    if (!isDone) return;
    const { serial } = value;
    const image = new Image();
    image.onload = () => {
      if (serial !== value.serial) return;
      picture = image;
      chosen = Math.min(value.cells.length - 1, Math.floor(value.cells.length / 2) + Math.floor((value.columns || 0) / 2));
      pick.setAttribute('aria-valuemax', value.cells.length);
      view.hidden = false;
      root.dataset.phase = 'done';
      draw();
    };
    image.src = value.picture.url;
  });
}
