// A clip as segments, each with the caption that its frames have in common.

import { make, setText } from '../common/dom.js';
import { makePanel } from '../common/panel.js';
import { seekClip } from './player.js';

export function mount(part) {
  const { followValue } = part;
  const bar = make('ol', { class: 'cs-time-bar', 'aria-hidden': 'true' });
  const list = make('ol', { class: 'cs-segments' });
  const average = make('p', { class: 'cs-average' });
  const panel = makePanel(part, 'Timeline', average, bar, list);

  /** A segment in the list; it stays where more come, and with it the focus. */
  function makeSegment(place) {
    const segment = { start: 0 };
    const number = make('span', { class: 'cs-segment-number', 'aria-hidden': 'true' }, String(place + 1));
    const picture = make('img', { alt: '' });
    const time = make('button', { type: 'button', class: 'cs-segment-time', title: 'Show in the player', onclick: () => seekClip(segment.start) });
    const text = make('span', { class: 'cs-segment-text', dir: 'auto' });
    return Object.assign(segment, { node: make('li', {}, number, picture, time, text), number, picture, time, text });
  }

  const shown = [];
  function drawSegments(segments) {
    while (shown.length > segments.length) shown.pop().node.remove();
    while (shown.length < segments.length) {
      shown.push(makeSegment(shown.length));
      list.append(shown.at(-1).node);
    }
    segments.forEach((data, index) => {
      const segment = shown[index];
      segment.start = data.start;
      segment.number.dataset.kind = data.kind % 6;
      if (segment.picture.getAttribute('src') !== data.src) segment.picture.src = data.src;
      setText(segment.time, data.time);
      setText(segment.text, data.text || 'no words');
    });
  }

  followValue((value) => {
    panel.show(value);
    const whole = Math.max(...value.segments.map((segment) => segment.end), 0) - Math.min(...value.segments.map((segment) => segment.start), 0);
    bar.replaceChildren(...value.segments.map((segment, index) =>
      make('li', { 'data-kind': segment.kind % 6, style: `flex-grow: ${((segment.end - segment.start) / (whole || 1)).toFixed(4)}`, title: segment.text }, String(index + 1))));
    drawSegments(value.segments);
    average.replaceChildren(make('span', { class: 'cs-hint' }, 'all frames averaged: '), make('b', { dir: 'auto' }, value.average));
    average.hidden = !value.average || !value.segments.length;
    bar.hidden = value.segments.length < 1;
    list.hidden = !value.segments.length;
  });
}
