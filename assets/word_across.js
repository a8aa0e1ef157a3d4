// One word of a clip's caption on every frame: where it is looked for, and what each frame adds to its probability.

const words = make('div', { class: 'cs-across-words', dir: 'auto', role: 'group', 'aria-label': 'Words of the averaged caption' });
const frames = make('ol', { class: 'cs-across' });
const note = make('p', { class: 'cs-hint' });
const panel = makePanel('One word across the clip', words, frames, note);
// Magma (matplotlib), every sixteenth colour: even steps to the eye.
const MAGMA = [[0, 0, 4], [11, 9, 36], [32, 17, 75], [59, 15, 112], [87, 21, 126], [114, 31, 129], [140, 41, 129], [168, 50, 125], [196, 60, 117], [222, 73, 104], [241, 96, 93], [250, 127, 94], [254, 159, 109], [254, 191, 132], [253, 222, 160], [252, 253, 191]];

function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (MAGMA.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, MAGMA.length - 1);
  return MAGMA[low].map((channel, index) => channel + (MAGMA[high][index] - channel) * (at - low));
}

function drawMap(canvas, data) {
  const [rows, columns] = data.grid;
  const bytes = Uint8Array.from(atob(data.map), (letter) => letter.charCodeAt(0));
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  bytes.forEach((byte, index) => {
    const [red, green, blue] = colour(byte / 255);
    image.data.set([red, green, blue, 60 + Math.round(byte * 0.6)], index * 4);
  });
  canvas.getContext('2d').putImageData(image, 0, 0);
  const [left, top, right, bottom] = data.region.map((share) => share * 100);
  canvas.style.cssText = `left: ${left}%; top: ${top}%; width: ${right - left}%; height: ${bottom - top}%`;
}

function makeFrame(data, most) {
  const canvas = make('canvas', { 'aria-hidden': 'true' });
  drawMap(canvas, data);
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
  frames.replaceChildren(...value.frames.map((data) => makeFrame(data, most)));
  frames.hidden = !value.frames.length;
  setText(note, value.note || '');
  note.hidden = !value.note;
});
