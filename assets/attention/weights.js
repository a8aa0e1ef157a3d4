// Attention as it travels, and the maps that follow from it. Weights are bytes with a scale for each row of patches,
// ordered [layer][head][token][patch]; behind the last layer follows the mean of all layers. In front of the bytes
// stand, as little-endian float32 for each row: its scale, its share on the picture, and its share on prefix tokens.

import { bytesOf } from '../common/bytes.js';

const HEADER_NUMBERS = 3;
/** Of a shared scale's values so many lie below its end: else one patch that draws everything hides all others. */
const CLIPPED_SHARE = 0.985;

async function unzipped(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}

/** Bytes from `from` up to `to`; a server that cannot send a part sends everything, of which the part is cut. */
async function fetchPart(url, from, to) {
  const answer = await fetch(url, { headers: { Range: `bytes=${from}-${to - 1}` } });
  if (!answer.ok) throw new Error(`the weights did not arrive (${answer.status})`);
  const buffer = await answer.arrayBuffer();
  return answer.status === 206 ? buffer : buffer.slice(from, to);
}

export class Weights {
  constructor(look) {
    this.look = look;
    this.tokens = look.tokens.length;
    this.rows = this.tokens * look.heads * (look.layers + 1);
    this.layerBytes = look.heads * this.tokens * look.patches;
    this.layers = new Array(look.layers + 1).fill(null);
    this.waiting = new Map();
  }

  /** Everything that is not fetched on demand. */
  async open() {
    const { look } = this;
    const start = HEADER_NUMBERS * 4 * this.rows;
    if (look.weights_inline || !look.on_demand) {
      const buffer = look.weights_inline ? await unzipped(look.weights_inline) : await (await fetch(look.weights.url)).arrayBuffer();
      this.readHeader(buffer);
      this.layers = this.layers.map((_, layer) => new Uint8Array(buffer, start + layer * this.layerBytes, this.layerBytes));
      return;
    }
    this.readHeader(await fetchPart(look.weights.url, 0, start));
  }

  readHeader(buffer) {
    const numbers = (place) => new Float32Array(buffer, place * 4 * this.rows, this.rows);
    this.scales = numbers(0);
    this.onPicture = numbers(1);
    this.onPrefix = numbers(2);
  }

  /** The slices that a choice is drawn from: what is done head by head before layers are averaged needs them all. */
  slices(layer, head, aboveMinimum) {
    if (layer === null && (head === 'max' || aboveMinimum)) return Array.from({ length: this.look.layers }, (_, index) => index);
    return [layer ?? this.look.layers];
  }

  has(layer, head, aboveMinimum) {
    return this.slices(layer, head, aboveMinimum).every((place) => this.layers[place]);
  }

  /** Fetch what a choice is drawn from, where it is not here yet; `layer` null is the mean of all. */
  need(layer, head, aboveMinimum) {
    return Promise.all(this.slices(layer, head, aboveMinimum).map((place) => this.fetchSlice(place)));
  }

  fetchSlice(place) {
    if (this.layers[place]) return Promise.resolve();
    if (!this.waiting.has(place)) {
      const start = HEADER_NUMBERS * 4 * this.rows + place * this.layerBytes;
      this.waiting.set(place, fetchPart(this.look.weights.url, start, start + this.layerBytes)
        .then((buffer) => { this.layers[place] = new Uint8Array(buffer); })
        .finally(() => this.waiting.delete(place)));
    }
    return this.waiting.get(place);
  }

  row(layer, head, token) {
    return ((layer ?? this.look.layers) * this.look.heads + head) * this.tokens + token;
  }

  /** The bytes of one row, and what one step of them is worth. */
  cell(layer, head, token) {
    const { patches } = this.look;
    const start = (head * this.tokens + token) * patches;
    return [this.layers[layer ?? this.look.layers].subarray(start, start + patches), this.scales[this.row(layer, head, token)]];
  }

  /** The mean of some tokens' rows, as levels of 0…255, and what one step of them is worth. */
  meanCell(layer, head, tokens) {
    if (tokens.length === 1) return this.cell(layer, head, tokens[0]);
    const mean = new Float32Array(this.look.patches);
    for (const token of tokens) {
      const [bytes, step] = this.cell(layer, head, token);
      const part = step / tokens.length;
      for (let p = 0; p < mean.length; p += 1) mean[p] += bytes[p] * part;
    }
    const step = mean.reduce((most, weight) => Math.max(most, weight), 0) / 255;
    if (step > 0) for (let p = 0; p < mean.length; p += 1) mean[p] /= step;
    return [mean, step];
  }

  /**
   * Maps of all tokens [tokens × patches]: of one head, or the mean or maximum of heads; layers' mean where `layer` is
   * null. `aboveMinimum` first takes off, head by head, what every token gave a patch.
   */
  maps(layer, head, aboveMinimum) {
    const { patches } = this.look;
    const slices = this.slices(layer, head, aboveMinimum);
    const heads = this.headsOf(head);
    const result = new Float32Array(this.tokens * patches);
    for (const slice of slices) {
      const strongest = head === 'max' ? new Float32Array(result.length) : null;
      for (const each of heads) {
        const low = aboveMinimum ? this.minimum(slice, each) : null;
        for (let token = 0; token < this.tokens; token += 1) {
          const [bytes, step] = this.cell(slice, each, token);
          const start = token * patches;
          const part = step / heads.length / slices.length;
          if (strongest) for (let p = 0; p < patches; p += 1) strongest[start + p] = Math.max(strongest[start + p], bytes[p] * step - (low ? low[p] : 0));
          else if (low) for (let p = 0; p < patches; p += 1) result[start + p] += bytes[p] * part - low[p] / heads.length / slices.length;
          else for (let p = 0; p < patches; p += 1) result[start + p] += bytes[p] * part;
        }
      }
      if (strongest) for (let index = 0; index < result.length; index += 1) result[index] += strongest[index] / slices.length;
    }
    return result;
  }

  /** What every token gave a patch, at least, in one head. */
  minimum(slice, head) {
    const low = new Float32Array(this.look.patches).fill(Infinity);
    for (let token = 0; token < this.tokens; token += 1) {
      const [bytes, step] = this.cell(slice, head, token);
      for (let p = 0; p < low.length; p += 1) low[p] = Math.min(low[p], bytes[p] * step);
    }
    return low;
  }

  headsOf(head) {
    return typeof head === 'number' ? [head] : Array.from({ length: this.look.heads }, (_, index) => index);
  }

  /** The mean share of some tokens' attention on the picture and on its prefix tokens; maxima of heads would be no shares. */
  shares(layer, head, tokens) {
    const heads = this.headsOf(head);
    let [picture, prefix] = [0, 0];
    for (const each of heads) {
      for (const token of tokens) {
        picture += this.onPicture[this.row(layer, each, token)];
        prefix += this.onPrefix[this.row(layer, each, token)];
      }
    }
    const count = heads.length * tokens.length;
    return { picture: picture / count, prefix: prefix / count };
  }
}

/** The maps of a method that was computed for every token, as they travel: bytes and a scale for each token. */
export function methodMaps(packed, patches) {
  const bytes = bytesOf(packed.rows);
  return Float32Array.from(bytes, (byte, index) => byte * packed.scales[Math.floor(index / patches)]);
}

/** Maps with what earlier tokens looked at taken off: their mean map, scaled to fit in least squares, as far as that leaves anything. */
export function removeInterference(maps, patches) {
  const result = Float32Array.from(maps);
  const before = new Float32Array(patches);
  for (let start = 0, place = 0; start < maps.length; start += patches, place += 1) {
    let [energy, together] = [0, 0];
    for (let p = 0; p < patches; p += 1) {
      energy += before[p] * before[p];
      together += before[p] * maps[start + p];
    }
    const fit = energy > 0 ? together / energy : 0;
    for (let p = 0; p < patches; p += 1) {
      result[start + p] = Math.max(0, maps[start + p] - fit * before[p]);
      before[p] += (maps[start + p] - before[p]) / (place + 1);
    }
  }
  return result;
}

/** The mean of the maps of each unit's tokens [units × patches]. */
export function mergeMaps(maps, units, patches) {
  const result = new Float32Array(units.length * patches);
  units.forEach((tokens, unit) => {
    for (const token of tokens) {
      for (let p = 0; p < patches; p += 1) result[unit * patches + p] += maps[token * patches + p] / tokens.length;
    }
  });
  return result;
}

/** The value below which the share `q` of all values lies, between neighbours by straight lines. */
export function quantile(values, q) {
  const sorted = Float32Array.from(values).sort();
  const place = q * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

/** Maps above what all of them give a patch. */
export function subtractMinimum(maps, patches) {
  const result = Float32Array.from(maps);
  for (let p = 0; p < patches; p += 1) {
    let low = Infinity;
    for (let index = p; index < maps.length; index += patches) low = Math.min(low, maps[index]);
    for (let index = p; index < maps.length; index += patches) result[index] -= low;
  }
  return result;
}

/** Maps brought to 0…1: each by its own scale, or all by one, so that they can be compared. */
export function rescaleMaps(maps, patches, each) {
  const result = Float32Array.from(maps);
  const count = maps.length / patches;
  if (each) {
    for (let unit = 0; unit < count; unit += 1) {
      const row = result.subarray(unit * patches, (unit + 1) * patches);
      let [low, high] = [Infinity, -Infinity];
      for (const weight of row) {
        low = Math.min(low, weight);
        high = Math.max(high, weight);
      }
      const span = high - low;
      for (let p = 0; p < patches; p += 1) row[p] = span > 0 ? (row[p] - low) / span : 0;
    }
    return result;
  }
  const most = () => result.reduce((high, weight) => Math.max(high, weight), 0); // more than a call takes arguments
  const ceiling = quantile(result, CLIPPED_SHARE) || most() || 1;
  for (let index = 0; index < result.length; index += 1) result[index] = Math.min(1, result[index] / ceiling);
  return result;
}

/** How widely a map spreads, in bits: 0 for one patch, log2 of their number where all are alike or nothing is there. */
export function entropyBits(map) {
  let total = 0;
  for (const weight of map) total += weight;
  if (!(total > 0)) return Math.log2(map.length);
  let bits = 0;
  for (const weight of map) if (weight > 0) bits -= (weight / total) * Math.log2(weight / total);
  return bits;
}
