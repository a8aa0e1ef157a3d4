// The picture with a word's map over it, large; a box drawn on it asks which words looked there.

import { paintMap, paintWeighted, placeOver } from './paint.js';
import { make } from '../common/dom.js';
import { readable } from '../common/tokens.js';

const CLICK_SHARE = 0.012; // a pointer that moved less than this of the picture did not draw a box

/** `look(box or null)` hears the box as left, top, right, bottom in shares of the picture. */
export function makeStage({ look: lookUp }) {
  const image = make('img', { class: 'cs-stage-picture', alt: '', draggable: 'false' });
  const heat = make('canvas', { class: 'cs-stage-heat', 'aria-hidden': 'true' });
  const weighted = make('canvas', { class: 'cs-stage-weighted', 'aria-hidden': 'true', hidden: true });
  const frameBox = make('div', { class: 'cs-stage-box', hidden: true });
  const frame = make('div', { class: 'cs-stage-frame', role: 'slider', tabindex: '0', 'aria-label': 'Patch to look up', 'aria-valuemin': '1' }, image, heat, weighted, frameBox);
  const spare = document.createElement('canvas');
  let shown = null;
  let patch = -1;
  let start = null;

  const isFree = () => shown && shown.mode !== 'map';
  const within = (share) => Math.min(1, Math.max(0, share));
  function pointAt(event) {
    const box = frame.getBoundingClientRect();
    let [x, y] = [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
    if (!isFree()) {
      const [left, top, right, bottom] = shown.raster.region; // the bare map fills the frame
      [x, y] = [left + x * (right - left), top + y * (bottom - top)];
    }
    return [x, y];
  }
  const boxOf = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
  const isClick = ([left, top, right, bottom]) => right - left < CLICK_SHARE && bottom - top < CLICK_SHARE;

  /** The smallest patch under a point, or −1. */
  function patchAt([x, y]) {
    let found = -1;
    let least = Infinity;
    shown.look.boxes.forEach(([left, top, right, bottom], index) => {
      const area = (right - left) * (bottom - top);
      if (x >= left && x <= right && y >= top && y <= bottom && area > 0 && area < least) [found, least] = [index, area];
    });
    return found;
  }

  function choosePatch(index) {
    patch = index;
    if (index < 0) lookUp(null);
    else lookUp({ box: shown.look.boxes[index], patches: [index] });
  }

  function chooseBox(box) {
    patch = -1;
    const [left, top, right, bottom] = box;
    const patches = [];
    shown.look.boxes.forEach(([l, t, r, b], index) => {
      const [x, y] = [(l + r) / 2, (t + b) / 2];
      if (x >= left && x <= right && y >= top && y <= bottom) patches.push(index);
    });
    if (patches.length) lookUp({ box, patches });
    else choosePatch(patchAt([(left + right) / 2, (top + bottom) / 2]));
  }

  frame.addEventListener('pointerdown', (event) => {
    if (!shown || event.button !== 0) return;
    start = pointAt(event);
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener('pointermove', (event) => {
    if (!start) return;
    const box = boxOf(start, pointAt(event));
    if (!isClick(box)) placeBox(box);
  });
  frame.addEventListener('pointerup', (event) => {
    if (!start) return;
    const box = boxOf(start, pointAt(event));
    start = null;
    if (!isClick(box)) chooseBox(box);
    else if (shown.box) choosePatch(-1); // a click ends the look-up, the next one begins another
    else choosePatch(patchAt([box[0], box[1]]));
  });
  frame.addEventListener('pointercancel', () => { start = null; placeBox(shown?.box ?? null); });
  frame.addEventListener('keydown', (event) => {
    if (!shown) return;
    const columns = shown.look.grid ? shown.look.grid[1] : 1;
    const last = shown.look.patches - 1;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (event.key === 'Escape' && shown.box) choosePatch(-1);
    else if (step !== undefined) choosePatch(patch < 0 ? 0 : Math.min(last, Math.max(0, patch + step)));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  function placeBox(box) {
    frameBox.hidden = !box;
    if (!box) return;
    let [left, top, right, bottom] = box;
    if (!isFree()) {
      const [l, t, r, b] = shown.raster.region;
      [left, right] = [(left - l) / (r - l), (right - l) / (r - l)];
      [top, bottom] = [(top - t) / (b - t), (bottom - t) / (b - t)];
    }
    placeOver(frameBox, [left, top, right, bottom]);
  }

  /** In words: where a map is hottest. */
  function hottestPlace(map) {
    let hottest = 0;
    for (let p = 1; p < map.length; p += 1) if (map[p] > map[hottest]) hottest = p;
    const [left, top, right, bottom] = shown.look.boxes[hottest];
    const third = (share) => Math.min(2, Math.floor(share * 3));
    const row = ['top', 'middle', 'bottom'][third((top + bottom) / 2)];
    const column = ['left', 'centre', 'right'][third((left + right) / 2)];
    return row === 'middle' && column === 'centre' ? 'centre' : `${row} ${column}`;
  }

  function describe(map, unit) {
    frame.setAttribute('aria-valuemax', String(shown.look.patches));
    frame.setAttribute('aria-valuenow', String(patch + 1 || 1));
    const where = patch >= 0 ? `patch ${patch + 1} of ${shown.look.patches}; ` : '';
    frame.setAttribute('aria-valuetext', `${where}the map of “${readable(unit.text)}” is hottest at the ${hottestPlace(map)}`);
  }

  return {
    node: frame,
    picture: image,
    /** What to show: `{look, raster, map [patches] in 0…1, unit, colours, mode, opacity, smooth, box}`. */
    show(next) {
      shown = next;
      const { look, raster, map, mode } = next;
      const bare = mode === 'map';
      const [left, top, right, bottom] = raster.region;
      const ratio = bare ? ((right - left) * look.width) / ((bottom - top) * look.height) : look.width / look.height;
      // The column of the stage is no wider than the picture, so that what stands beside it stays near.
      for (const node of [frame, frame.parentNode]) node.style.setProperty('--ratio', ratio.toFixed(4));
      image.hidden = bare || mode === 'weighted';
      heat.hidden = mode === 'weighted';
      weighted.hidden = mode !== 'weighted';
      if (mode === 'weighted') {
        if (image.complete && image.naturalWidth) paintWeighted(weighted, image, raster, map, next.smooth, spare);
      } else {
        paintMap(heat, raster, map, next.colours);
        placeOver(heat, bare ? [0, 0, 1, 1] : raster.region);
        heat.style.opacity = bare ? '1' : String(next.opacity);
        heat.classList.toggle('is-smooth', next.smooth && !bare);
      }
      if (!next.box) patch = -1;
      if (!start) placeBox(next.box);
      describe(map, next.unit);
    },
  };
}
