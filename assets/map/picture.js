// The map as it is seen, drawn anew as a picture file.

import { make } from '../common/dom.js';
import { pointPixels } from './plot.js';

const SHARPNESS = 2;

/** A PNG of points, lines, pictures and names, in pixels of the stage. */
export function drawMap({ width, height, background, ink, places, colours, lit, callouts, names }) {
  const canvas = document.createElement('canvas');
  canvas.width = width * SHARPNESS;
  canvas.height = height * SHARPNESS;
  const pen = canvas.getContext('2d');
  pen.scale(SHARPNESS, SHARPNESS);
  pen.fillStyle = background;
  pen.fillRect(0, 0, width, height);
  places[0].forEach((x, index) => {
    pen.globalAlpha = !lit || lit.has(index) ? 0.92 : 0.16;
    pen.fillStyle = Array.isArray(colours) ? colours[index] : colours;
    pen.beginPath();
    pen.arc(x, places[1][index], pointPixels(places[0].length) / 2, 0, 2 * Math.PI);
    pen.fill();
  });
  pen.globalAlpha = 1;
  for (const { box, from, colour } of callouts) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo((box[0] + box[2]) / 2, (box[1] + box[3]) / 2);
    pen.stroke();
  }
  for (const { picture, box, colour } of callouts) drawSquare(pen, picture, box, colour);
  pen.font = '600 13px system-ui, sans-serif';
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  for (const { text, x, y } of names) {
    pen.lineWidth = 4;
    pen.strokeStyle = background;
    pen.strokeText(text, x, y);
    pen.fillStyle = ink;
    pen.fillText(text, x, y);
  }
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}

/** The middle square of a picture, as the page shows it. */
function drawSquare(pen, picture, [left, top, right, bottom], colour) {
  const side = Math.min(picture.naturalWidth, picture.naturalHeight);
  if (side) {
    const [x, y] = [(picture.naturalWidth - side) / 2, (picture.naturalHeight - side) / 2];
    pen.drawImage(picture, x, y, side, side, left, top, right - left, bottom - top);
  }
  pen.lineWidth = 2;
  pen.strokeStyle = colour;
  pen.strokeRect(left, top, right - left, bottom - top);
}

export function saveBlob(blob, name) {
  const address = URL.createObjectURL(blob);
  make('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
