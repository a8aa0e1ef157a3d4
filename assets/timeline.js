// A clip as segments, each with the caption that its frames have in common.

const bar = make('ol', { class: 'cs-time-bar', 'aria-hidden': 'true' });
const list = make('ol', { class: 'cs-segments' });
const average = make('p', { class: 'cs-average' });
const panel = makePanel('Timeline', average, bar, list);

followValue((value) => {
  panel.show(value);
  const whole = Math.max(...value.segments.map((segment) => segment.end), 0) - Math.min(...value.segments.map((segment) => segment.start), 0);
  bar.replaceChildren(...value.segments.map((segment, index) =>
    make('li', { 'data-kind': segment.kind % 6, style: `flex-grow: ${((segment.end - segment.start) / (whole || 1)).toFixed(4)}`, title: segment.text }, String(index + 1))));
  list.replaceChildren(...value.segments.map((segment, index) => make('li', {},
    make('span', { class: 'cs-segment-number', 'data-kind': segment.kind % 6, 'aria-hidden': 'true' }, String(index + 1)),
    segment.src ? make('img', { src: segment.src, alt: '' }) : null,
    make('button', { type: 'button', class: 'cs-segment-time', title: 'Show in the player', onclick: () => seekClip(segment.start) }, segment.time),
    make('span', { class: 'cs-segment-text', dir: 'auto' }, segment.text || 'no words'))));
  average.replaceChildren(make('span', { class: 'cs-hint' }, 'all frames averaged: '), make('b', { dir: 'auto' }, value.average));
  average.hidden = !value.average || !value.segments.length;
  bar.hidden = value.segments.length < 1;
  list.hidden = !value.segments.length;
});
