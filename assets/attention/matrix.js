// Every layer and head at once for one word, on one canvas: each cell a small map.

import { placeOver, rasterise } from './paint.js';
import { entropyBits, quantile } from './weights.js';
import { make, setText } from '../common/dom.js';
import { signed } from '../common/tokens.js';

const CELL_GAP = 2;
const LARGEST_CELL = 48;
const WIDEST_MATRIX = 960;

/** `pick(layer, head)` hears the cell that was chosen. */
export function makeMatrix({ pick }) {
  const canvas = make('canvas', { 'aria-hidden': 'true' });
  const mark = make('div', { class: 'cs-matrix-mark', 'aria-hidden': 'true' });
  const hint = make('p', { class: 'cs-hint cs-matrix-hint' });
  const frame = make('div', { class: 'cs-matrix', role: 'slider', tabindex: '0', 'aria-label': 'Layer and head', 'aria-valuemin': '1' }, canvas, mark);
  const node = make('div', {}, frame, hint);
  let shown = null;
  let cells = []; // of every layer and head: levels and what one step of them is worth, or null while they are on their way
  let order = [];
  let size = [1, 1];

  /** Cells in the order they are shown: by place, by how narrow each looks, or by how much its head matters. */
  function sortCells({ look, sort, importance }) {
    const places = Array.from(cells.keys());
    if (sort === 'place') return places;
    const rank = cells.map((levels, cell) => {
      const [layer, head] = placeOf(cell, look);
      if (sort === 'importance') return importance ? -importance[layer][head] : 0;
      return levels ? entropyBits(levels[0]) : Infinity;
    });
    return places.sort((a, b) => rank[a] - rank[b]);
  }

  function readCells({ look, weights, positions }) {
    return Array.from({ length: look.layers * look.heads }, (_, cell) => {
      const [layer, head] = placeOf(cell, look);
      return weights.has(layer, 'mean') ? weights.meanCell(layer, head, positions) : null;
    });
  }

  const placeOf = (cell, look) => [Math.floor(cell / look.heads), cell % look.heads];

  /** Pixels of a cell, rows and columns: as many as fit, so that a small grid keeps its edges. */
  function cellSize(raster) {
    const side = Math.max(4, Math.min(LARGEST_CELL, Math.floor(WIDEST_MATRIX / shown.look.heads) - CELL_GAP));
    const longest = Math.max(raster.rows, raster.columns);
    const zoom = longest > side ? side / longest : Math.floor(side / longest);
    return [Math.max(1, Math.round(raster.rows * zoom)), Math.max(1, Math.round(raster.columns * zoom))];
  }

  function paint() {
    const { look, raster, colours, shared } = shown;
    const [rows, columns] = cellSize(raster);
    size = [rows + CELL_GAP, columns + CELL_GAP];
    canvas.width = look.heads * size[1] - CELL_GAP;
    canvas.height = look.layers * size[0] - CELL_GAP;
    const image = new ImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const ceiling = shared ? sharedCeiling() : 0;
    order.forEach((cell, place) => {
      if (!cells[cell]) return;
      const [levels, step] = cells[cell];
      const bright = shared ? Math.min(1e6, step * 255 / ceiling) : 1;
      const values = rasterise(raster, levels);
      const top = Math.floor(place / look.heads) * size[0];
      const left = (place % look.heads) * size[1];
      for (let y = 0; y < rows; y += 1) {
        const from = Math.floor(((y + 0.5) * raster.rows) / rows) * raster.columns;
        const to = (top + y) * canvas.width + left;
        for (let x = 0; x < columns; x += 1) {
          const value = values[from + Math.floor(((x + 0.5) * raster.columns) / columns)] * bright;
          pixels[to + x] = colours[value >= 255 ? 255 : Math.round(value)];
        }
      }
    });
    canvas.getContext('2d').putImageData(image, 0, 0);
  }

  /** The end of a scale for all cells: nine of ten maps reach it nowhere. */
  function sharedCeiling() {
    const tops = cells.filter(Boolean).map(([, step]) => step * 255);
    return quantile(tops.length ? tops : [1], 0.9) || 1;
  }

  const numbersOf = (cell) => {
    const { look, importance } = shown;
    const [layer, head] = placeOf(cell, look);
    const facts = [`layer ${layer + 1}, head ${head + 1}`];
    if (cells[cell]) facts.push(`${entropyBits(cells[cell][0]).toFixed(1)} bits`);
    if (importance) facts.push(`silenced: ${signed(-importance[layer][head])} nats`);
    return facts.join(' · ');
  };
  const chosenPlace = () => {
    const { look, layer, head } = shown;
    return layer === null || typeof head !== 'number' ? -1 : order.indexOf(layer * look.heads + head);
  };
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * shown.look.heads);
    const row = Math.floor(((event.clientY - box.top) / box.height) * shown.look.layers);
    return order[row * shown.look.heads + column];
  };

  function markChosen() {
    const { look } = shown;
    const place = chosenPlace();
    mark.hidden = place < 0;
    if (place >= 0) {
      const [row, column] = [Math.floor(place / look.heads), place % look.heads];
      placeOver(mark, [column / look.heads, row / look.layers, (column + 1) / look.heads, (row + 1) / look.layers]);
    }
    frame.setAttribute('aria-valuemax', String(order.length));
    frame.setAttribute('aria-valuenow', String(Math.max(1, place + 1)));
    frame.setAttribute('aria-valuetext', place < 0 ? 'all together' : numbersOf(order[place]));
  }

  frame.addEventListener('pointermove', (event) => { if (shown && cellAt(event) !== undefined) setText(hint, numbersOf(cellAt(event))); });
  frame.addEventListener('pointerleave', () => { if (shown) setText(hint, shown.about); });
  frame.addEventListener('click', (event) => { if (shown && cellAt(event) !== undefined) pick(...placeOf(cellAt(event), shown.look)); });
  frame.addEventListener('keydown', (event) => {
    if (!shown) return;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: shown.look.heads, ArrowUp: -shown.look.heads }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const place = chosenPlace();
    pick(...placeOf(order[place < 0 ? 0 : Math.min(order.length - 1, Math.max(0, place + step))], shown.look));
  });

  return {
    node,
    /** `{look, weights, raster, positions, colours, shared, sort, importance, layer, head, about}`. */
    show(next) {
      shown = next;
      cells = readCells(next);
      order = sortCells(next);
      frame.style.setProperty('--ratio', ((next.look.heads * rasterRatio(next)) / next.look.layers).toFixed(4));
      paint();
      markChosen();
      setText(hint, next.about);
    },
    mark(layer, head) {
      Object.assign(shown, { layer, head });
      markChosen();
    },
  };
}

/** How much wider than high a cell is, as the picture lies. */
function rasterRatio({ look, raster }) {
  const [left, top, right, bottom] = raster.region;
  return ((right - left) * look.width) / ((bottom - top) * look.height);
}
