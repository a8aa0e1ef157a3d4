// The numbers that maps are drawn from.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { entropyBits, mergeMaps, quantile, removeInterference, rescaleMaps, subtractMinimum } from '../../../assets/attention/weights.js';

const rounded = (values) => [...values].map((value) => Number(value.toFixed(5)));

test('many maps of which few are not dark are brought to one scale', () => {
  const maps = new Float32Array(400_000);
  maps[7] = 0.5;
  assert.equal(rescaleMaps(maps, 1000, false)[7], 1);
});

test('a map by itself is stretched from 0 to 1, and a flat one is dark', () => {
  assert.deepEqual(rounded(rescaleMaps(Float32Array.of(0.1, 0.3, 0.2, 0.5, 0.5, 0.5), 3, true)), [0, 1, 0.5, 0, 0, 0]);
});

test('what all maps give a patch is taken off', () => {
  assert.deepEqual(rounded(subtractMinimum(Float32Array.of(0.2, 0.5, 0.3, 0.4), 2)), [0, 0.1, 0.1, 0]);
});

test('a map that repeats the ones before leaves nothing, and the first stays', () => {
  assert.deepEqual(rounded(removeInterference(Float32Array.of(0.5, 0.25, 1, 0.5), 2)), [0.5, 0.25, 0, 0]);
});

test('a word has the mean map of its tokens', () => {
  assert.deepEqual(rounded(mergeMaps(Float32Array.of(1, 0, 0, 1, 0.5, 0.5), [[0, 1], [2]], 2)), [0.5, 0.5, 0.5, 0.5]);
});

test('entropy is 0 for one patch and largest for a flat or an empty map', () => {
  assert.equal(entropyBits([0, 3, 0, 0]), 0);
  assert.equal(entropyBits([1, 1, 1, 1]), 2);
  assert.equal(entropyBits([0, 0, 0, 0]), 2);
});

test('a quantile lies between its neighbours by straight lines', () => {
  assert.equal(quantile([4, 1, 3, 2], 0.5), 2.5);
});
