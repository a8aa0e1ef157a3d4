// Pictures at their points: each beside its point with a line to it, none over another, and where few points are
// hidden. What is in view decides how many fit, so there are more as one zooms in.

import { make } from '../common/dom.js';
import { OTHER } from './colours.js';

const GAP = 5;
const CELL = 6;
const MOST_COVER = 0.4; // share of the stage that pictures may take
const MOST_TRIED = 700;
const RINGS = [0.85, 1.25, 1.75, 2.4];
const ANGLES = Array.from({ length: 12 }, (_, k) => (k / 12 + 1 / 24) * 2 * Math.PI);
const DIRECTIONS = RINGS.flatMap((ring) => ANGLES.map((angle) => [ring, Math.cos(angle), Math.sin(angle)]));

const ROOM = 0.15; // share of the stage that few pictures grow to

/** How large pictures are: larger where few points are in view. */
function pictureSide(width, height, inView) {
  const least = width < 520 ? 42 : width < 900 ? 50 : 58;
  const roomy = Math.sqrt((width * height * ROOM) / Math.max(inView, 1));
  return Math.round(Math.max(least, Math.min(2 * least, roomy)));
}

/** How many points lie in any box, answered at once: a summed-area table over small cells. */
function countPoints(horizontal, vertical, width, height) {
  const columns = Math.ceil(width / CELL) + 1;
  const rows = Math.ceil(height / CELL) + 1;
  const sums = new Uint32Array(columns * rows);
  for (let i = 0; i < horizontal.length; i += 1) {
    const [x, y] = [horizontal[i], vertical[i]];
    if (x >= 0 && y >= 0 && x < width && y < height) sums[(Math.floor(y / CELL) + 1) * columns + Math.floor(x / CELL) + 1] += 1;
  }
  for (let row = 1; row < rows; row += 1) {
    for (let column = 1; column < columns; column += 1) {
      const at = row * columns + column;
      sums[at] += sums[at - 1] + sums[at - columns] - sums[at - columns - 1];
    }
  }
  const clamp = (value, most) => Math.max(0, Math.min(most, Math.round(value / CELL)));
  return (left, top, right, bottom) => {
    const [l, r] = [clamp(left, columns - 1), clamp(right, columns - 1)];
    const [t, b] = [clamp(top, rows - 1), clamp(bottom, rows - 1)];
    return sums[b * columns + r] - sums[t * columns + r] - sums[b * columns + l] + sums[t * columns + l];
  };
}

/** Points in view: first those that matter, then one from each part of the view in turn. */
function inTurn(horizontal, vertical, width, height, first, side) {
  const inside = (i) => horizontal[i] >= 0 && horizontal[i] < width && vertical[i] >= 0 && vertical[i] < height;
  const heads = [...new Set(first)].filter(inside);
  const known = new Set(heads);
  const parts = new Map();
  for (let i = 0; i < horizontal.length; i += 1) {
    if (known.has(i) || !inside(i)) continue;
    const key = Math.floor(vertical[i] / (1.5 * side)) * 10_000 + Math.floor(horizontal[i] / (1.5 * side));
    if (!parts.has(key)) parts.set(key, []);
    parts.get(key).push(i);
  }
  const queues = [...parts.values()];
  const order = heads;
  for (let round = 0; order.length < MOST_TRIED && queues.some((queue) => queue.length > round); round += 1) {
    for (const queue of queues) if (queue.length > round) order.push(queue[round]);
  }
  return order;
}

function crosses([ax, ay, bx, by], [cx, cy, dx, dy]) {
  const turn = (px, py, qx, qy, rx, ry) => Math.sign((qx - px) * (ry - py) - (qy - py) * (rx - px));
  return turn(ax, ay, bx, by, cx, cy) !== turn(ax, ay, bx, by, dx, dy) && turn(cx, cy, dx, dy, ax, ay) !== turn(cx, cy, dx, dy, bx, by);
}

/**
 * Where pictures go: `{index, dx, dy}`, each the middle of a picture away from its point. `taken` are boxes that
 * stay free, `first` the points that come first, `groups` holds one number for all copies of a picture.
 */
export function layOutCallouts(horizontal, vertical, width, height, { first = [], taken = [], groups = null } = {}) {
  const count = countPoints(horizontal, vertical, width, height);
  const side = pictureSide(width, height, count(0, 0, width, height));
  const most = Math.floor((width * height * MOST_COVER) / (side + GAP) ** 2);
  const boxes = taken.map((box) => [...box]);
  const lines = [];
  const seen = new Set();
  const placed = [];
  const half = side / 2;
  const free = (l, t, r, b) => l >= 3 && t >= 3 && r <= width - 3 && b <= height - 3
    && boxes.every(([left, top, right, bottom]) => r + GAP <= left || l - GAP >= right || b + GAP <= top || t - GAP >= bottom);
  for (const index of inTurn(horizontal, vertical, width, height, first, side)) {
    if (placed.length >= most) break;
    const group = groups ? groups[index] : index;
    if (seen.has(group)) continue;
    const [x, y] = [horizontal[index], vertical[index]];
    let best = null;
    for (const [ring, cos, sin] of DIRECTIONS) {
      const [dx, dy] = [ring * side * cos, ring * side * sin];
      const [l, t, r, b] = [x + dx - half, y + dy - half, x + dx + half, y + dy + half];
      let cost = 1.1 * ring + 0.9 * count(l, t, r, b);
      if ((best && cost >= best.cost) || !free(l, t, r, b)) continue;
      const line = [x, y, x + dx, y + dy];
      cost += 2.5 * lines.filter((other) => crosses(line, other)).length;
      if (!best || cost < best.cost) best = { cost, dx, dy, line, box: [l, t, r, b] };
    }
    if (!best || best.cost > 9) continue;
    seen.add(group);
    placed.push({ index, dx: best.dx, dy: best.dy });
    boxes.push(best.box);
    lines.push(best.line);
  }
  return { side, placed };
}

/** A sheet to draw on above a plot, in the page's pixels however sharp the screen is. */
export function makeSheet(holder, name) {
  const canvas = make('canvas', { class: name, 'aria-hidden': 'true' });
  const pen = canvas.getContext('2d');
  holder.append(canvas);
  return {
    /** A clean sheet of the holder's size. */
    clean() {
      const [width, height, sharpness] = [holder.clientWidth, holder.clientHeight, window.devicePixelRatio || 1];
      const [across, down] = [Math.round(width * sharpness), Math.round(height * sharpness)];
      if (canvas.width !== across || canvas.height !== down) { canvas.width = across; canvas.height = down; }
      pen.setTransform(sharpness, 0, 0, sharpness, 0, 0);
      pen.clearRect(0, 0, width, height);
      return pen;
    },
  };
}

/** The layer of pictures and lines above a plot; `thumbnail` makes a picture of a point. */
export function makeCallouts(holder, thumbnail) {
  const lines = makeSheet(holder, 'cs-map-lines');
  const pictures = make('div', { class: 'cs-map-pictures', 'aria-hidden': 'true' });
  holder.append(pictures);
  let shown = new Map();
  let side = 0;

  const layer = {
    get count() { return shown.size; },
    get indices() { return [...shown.keys()]; },

    /** The picture under a place on the screen, or -1. */
    at(px, py) {
      for (const [index, { box }] of shown) if (box && px >= box[0] && px <= box[2] && py >= box[1] && py <= box[3]) return index;
      return -1;
    },

    /** Show these callouts, keeping the pictures that stay. */
    show(layout, colourOf) {
      const next = new Map();
      side = layout.side;
      for (const { index, dx, dy } of layout.placed) {
        const known = shown.get(index) ?? { picture: thumbnail(index) };
        known.colour = colourOf(index);
        known.picture.style.width = known.picture.style.height = `${side}px`;
        known.picture.style.borderColor = known.colour;
        if (!shown.has(index)) pictures.append(known.picture);
        next.set(index, Object.assign(known, { dx, dy }));
      }
      for (const [index, { picture }] of shown) if (!next.has(index)) picture.remove();
      shown = next;
    },

    /** Follow the points, which moved on the screen. */
    follow(placeOf) {
      const pen = lines.clean();
      pen.lineWidth = 1.5;
      for (const [index, callout] of shown) {
        const [x, y] = placeOf(index);
        const [cx, cy] = [x + callout.dx, y + callout.dy];
        const half = side / 2;
        callout.from = [x, y];
        callout.box = [cx - half, cy - half, cx + half, cy + half];
        callout.picture.style.transform = `translate(${cx - half}px, ${cy - half}px)`;
        pen.strokeStyle = callout.colour;
        pen.beginPath();
        pen.moveTo(x, y);
        pen.lineTo(cx, cy);
        pen.stroke();
      }
    },

    mark(index) {
      for (const [other, { picture }] of shown) picture.classList.toggle('is-active', other === index);
    },

    /** What a drawing of the map needs: picture, box, colour and point of every callout. */
    drawn: () => [...shown.values()].filter(({ box }) => box),

    clear() { layer.show({ side, placed: [] }, () => OTHER); },
  };
  return layer;
}
