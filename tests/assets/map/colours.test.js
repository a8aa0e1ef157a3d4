// What the colours of the map's points say.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OTHER, colourings, hasWord } from '../../../assets/map/colours.js';

const map = { clusters: [0, 0, -1], clusterNames: ['dogs'], labels: ['', '', ''], folders: ['a', 'b', 'a'], captions: ['a dog runs', '', 'a cat'], recall: null };
const paint = (key, word) => colourings(map).find((one) => one.key === key).paint(word);

test('points outside of all groups are grey', () => {
  const { colours, legend } = paint('cluster');
  assert.equal(colours[2], OTHER);
  assert.notEqual(colours[0], OTHER);
  assert.deepEqual(legend.map(({ text, count }) => [text, count]), [['dogs', 2], ['in no cluster', 1]]);
});

test('only what the points have is offered', () => {
  assert.deepEqual(colourings(map).map(({ key }) => key), ['cluster', 'folder', 'word', 'recall']);
});

test('a word is found by its beginning, and a caption that is not there yet is a group of its own', () => {
  assert.ok(hasWord('Two dogs, running', 'dog'));
  assert.ok(!hasWord('a hotdog', 'dog'));
  assert.deepEqual(paint('word', 'dog').legend.map(({ text, count }) => [text, count]), [['with “dog”', 1], ['without it', 1], ['no caption yet', 1]]);
});
