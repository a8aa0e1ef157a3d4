// Tokens and probabilities in words.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { duration, levelOf, percent, probability, readable, signed } from '../../../assets/common/tokens.js';

test('a probability is a whole percentage, and never rounds to certainty or to nothing', () => {
  assert.equal(percent(0.254), '25 %');
  assert.equal(percent(0.0001), '<1 %');
  assert.equal(percent(0.9999), '>99 %');
  assert.equal(percent(1), '100 %');
});

test('the steps of probability begin where the ones before end', () => {
  assert.deepEqual([0.05, 0.1, 0.3, 0.79, 0.8, 1].map(levelOf), [0, 1, 2, 3, 4, 4]);
  assert.equal(levelOf(probability(-0.1)), 4);
});

test('numbers have a minus sign of type, and short times are not nothing', () => {
  assert.equal(signed(-1.239), '−1.24');
  assert.equal(duration(0.02), '<0.1 s');
});

test('a token that shows nothing has a name', () => {
  assert.deepEqual([' dog', ' ', '', '\uFFFD'].map(readable), ['dog', 'space', 'nothing', 'part of a character']);
});
