// Pictures beside their points.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layOutCallouts } from '../../../assets/map/callouts.js';

const along = (count, step) => Float64Array.from({ length: count }, (_, index) => 20 + (index * step) % 760);
const [across, down] = [along(300, 37), along(300, 101)];
const boxesOf = ({ side, placed }) => placed.map(({ index, dx, dy }) => {
  const [x, y] = [across[index] + dx, down[index] + dy];
  return [x - side / 2, y - side / 2, x + side / 2, y + side / 2];
});

test('no picture lies over another, outside, or on what is taken', () => {
  const taken = [[0, 770, 220, 800]];
  const boxes = boxesOf(layOutCallouts(across, down, 800, 800, { taken }));
  assert.ok(boxes.length > 10);
  for (const [place, [l, t, r, b]] of boxes.entries()) {
    assert.ok(l >= 0 && t >= 0 && r <= 800 && b <= 800);
    for (const [left, top, right, bottom] of [...boxes.slice(place + 1), ...taken]) assert.ok(r <= left || l >= right || b <= top || t >= bottom);
  }
});

test('copies of a picture are shown once, and what matters comes first', () => {
  const { placed } = layOutCallouts(across, down, 800, 800, { first: [42], groups: new Array(300).fill(7) });
  assert.deepEqual(placed.map(({ index }) => index), [42]);
});
