// One word of a clip's caption on every frame: where it is looked for, and what each frame adds to its probability.

import { placeOver, readColours } from '../attention/paint.js';
import { bytesOf } from '../common/bytes.js';
import { make, setText } from '../common/dom.js';
import { makePanel } from '../common/panel.js';
import { signed } from '../common/tokens.js';

const FAINTEST = 60; // of 255: how much of the colours covers the picture where nothing is looked for

export function mount(part) {
  const { trigger, followValue } = part;
  const words = make('div', { class: 'cs-across-words', dir: 'auto', role: 'group', 'aria-label': 'Words of the averaged caption' });
  const frames = make('ol', { class: 'cs-across' });
  const note = make('p', { class: 'cs-hint' });
  const panel = makePanel(part, 'One word across the clip', words, frames, note);

  /** The hotter a patch, the more its colour covers the picture. */
  function drawMap(canvas, data, colours) {
    const [rows, columns] = data.grid;
    canvas.width = columns;
    canvas.height = rows;
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    bytesOf(data.map).forEach((heat, patch) => { pixels[patch] = (colours[heat] & 0xffffff) | ((FAINTEST + Math.round(heat * 0.6)) << 24); });
    canvas.getContext('2d').putImageData(image, 0, 0);
    placeOver(canvas, data.region);
  }

  function makeFrame(data, most, colours) {
    const canvas = make('canvas', { 'aria-hidden': 'true' });
    drawMap(canvas, data, colours);
    const share = Math.min(Math.abs(data.contribution) / (most || 1), 1);
    const amount = signed(data.contribution);
    const text = amount === '−0.00' || amount === '0.00' ? '0.00' : data.contribution > 0 ? `+${amount}` : amount;
    return make('li', {},
      make('div', { class: 'cs-across-picture', role: 'img', 'aria-label': `Frame at ${data.time}, adds ${text} to the log-probability` },
        make('img', { src: data.src, alt: '' }), canvas),
      make('div', { class: 'cs-across-foot' }, make('span', { class: 'cs-film-time' }, data.time), make('span', { class: 'cs-number' }, text)),
      make('div', { class: `cs-add${data.contribution < 0 ? ' is-less' : ''}`, 'aria-hidden': 'true' }, make('span', { style: `width: ${(share * 50).toFixed(1)}%` })));
  }

  let drawn = '';
  followValue((value) => {
    panel.show(value);
    const key = JSON.stringify(value.words);
    if (key !== drawn) {
      drawn = key;
      words.replaceChildren(...value.words.map(([word, isPrompt], index) =>
        make('button', { type: 'button', class: `cs-button cs-across-word${isPrompt ? ' is-prompt' : ''}`, onclick: () => trigger('word_wanted', { word: index }) }, word)));
    }
    [...words.children].forEach((button, index) => button.setAttribute('aria-pressed', String(index === value.chosen)));
    words.hidden = !value.words.length;
    const most = Math.max(...value.frames.map((frame) => Math.abs(frame.contribution)), 0);
    const colours = readColours(value.colours);
    frames.replaceChildren(...value.frames.map((data) => makeFrame(data, most, colours)));
    frames.hidden = !value.frames.length;
    setText(note, value.note || '');
    note.hidden = !value.note;
  });
}
