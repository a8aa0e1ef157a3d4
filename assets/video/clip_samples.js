// Sample clips to click, and the way in for animated pictures beside them.

import { drawSamples } from '../common/samples.js';
import { takeAnimations } from './animations.js';

export function mount(part) {
  drawSamples(part);
  takeAnimations();
}
