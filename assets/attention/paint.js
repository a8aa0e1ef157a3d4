// Painting maps: a value a patch → colours on a canvas of one pixel a patch, which the page stretches over the picture.

import { bytesOf } from '../common/bytes.js';

const LONGEST_RASTER = 128;

/** Where patches lie: their own grid, or a raster over the picture where they form none (tiles, which may overlap). */
export function makeRaster(look) {
  if (look.grid) {
    const [rows, columns] = look.grid;
    return { rows, columns, region: look.region, ranges: null };
  }
  const longest = Math.max(look.width, look.height);
  const columns = Math.max(1, Math.round((LONGEST_RASTER * look.width) / longest));
  const rows = Math.max(1, Math.round((LONGEST_RASTER * look.height) / longest));
  const counts = new Uint16Array(rows * columns);
  const ranges = look.boxes.map(([left, top, right, bottom]) => {
    const x = Math.round(left * columns);
    const y = Math.round(top * rows);
    return [x, y, Math.max(x + 1, Math.round(right * columns)), Math.max(y + 1, Math.round(bottom * rows))];
  });
  for (const [left, top, right, bottom] of ranges) {
    for (let y = top; y < Math.min(bottom, rows); y += 1) for (let x = left; x < Math.min(right, columns); x += 1) counts[y * columns + x] += 1;
  }
  return { rows, columns, region: [0, 0, 1, 1], ranges, counts };
}

/** A map's value for each cell of the raster; where patches overlap, their mean. */
export function rasterise(raster, map) {
  if (!raster.ranges) return map;
  const { rows, columns, ranges, counts } = raster;
  const cells = new Float32Array(rows * columns);
  ranges.forEach(([left, top, right, bottom], patch) => {
    for (let y = top; y < Math.min(bottom, rows); y += 1) for (let x = left; x < Math.min(right, columns); x += 1) cells[y * columns + x] += map[patch];
  });
  for (let cell = 0; cell < cells.length; cell += 1) if (counts[cell]) cells[cell] /= counts[cell];
  return cells;
}

/** Colours of a scale as 256 ready pixels; `bytes` are red, green, blue for each. */
export function readColours(base64) {
  const bytes = bytesOf(base64);
  const pixels = new Uint32Array(256);
  for (let step = 0; step < 256; step += 1) {
    pixels[step] = (255 << 24) | (bytes[step * 3 + 2] << 16) | (bytes[step * 3 + 1] << 8) | bytes[step * 3];
  }
  return pixels;
}

const GREYS = Uint32Array.from({ length: 256 }, (_, step) => (255 << 24) | (step << 16) | (step << 8) | step);
const stepOf = (share) => (share <= 0 ? 0 : share >= 1 ? 255 : Math.round(share * 255));

/** One pixel a cell; `map` holds shares of 0…1. */
export function paintMap(canvas, raster, map, colours) {
  const { rows, columns, counts } = raster;
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const cells = rasterise(raster, map);
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let cell = 0; cell < pixels.length; cell += 1) pixels[cell] = counts && !counts[cell] ? 0 : colours[stepOf(cells[cell])];
  canvas.getContext('2d').putImageData(image, 0, 0);
}

/** Lay a canvas over the part of the picture that the model sees. */
export function placeOver(canvas, region) {
  const [left, top, right, bottom] = region.map((share) => share * 100);
  canvas.style.left = `${left}%`;
  canvas.style.top = `${top}%`;
  canvas.style.width = `${right - left}%`;
  canvas.style.height = `${bottom - top}%`;
}

/** The picture, bright where the map is hot and dark where it is cold. */
export function paintWeighted(canvas, picture, raster, map, smooth, spare) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  paintMap(spare, raster, map, GREYS);
  const pen = canvas.getContext('2d');
  const [left, top, right, bottom] = raster.region;
  pen.globalCompositeOperation = 'copy';
  pen.fillStyle = '#000';
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.globalCompositeOperation = 'source-over';
  pen.imageSmoothingEnabled = smooth;
  pen.drawImage(spare, left * canvas.width, top * canvas.height, (right - left) * canvas.width, (bottom - top) * canvas.height);
  pen.globalCompositeOperation = 'multiply';
  pen.drawImage(picture, 0, 0);
  pen.globalCompositeOperation = 'source-over';
}
