// Small pictures of points, asked for when they come into view, many at once, and kept for a while.

import { make } from '../common/dom.js';

const MOST_ASKED = 48;
const MOST_KEPT = 3000;

/** `ask` takes point numbers and promises `{number: data address}`, or undefined where nobody could be asked. */
export function makeThumbnails(ask) {
  let known = new Map();
  let waiting = new Map();
  let asking = false;

  async function fetchWaiting() {
    if (asking) return;
    asking = true;
    try { await fetchBatches(); } finally { asking = false; }
  }

  async function fetchBatches() {
    while (waiting.size) {
      const asked = waiting;
      const batch = [...asked.keys()].slice(0, MOST_ASKED);
      const found = await ask(batch);
      if (asked !== waiting) continue; // these were of a map that is gone
      if (!found) return; // they stay, and are asked for again along with the next
      for (const index of batch) {
        const pictures = asked.get(index);
        asked.delete(index);
        const address = found[index];
        if (!address) continue;
        known.set(index, address);
        for (const picture of pictures) picture.src = address;
      }
      while (known.size > MOST_KEPT) known.delete(known.keys().next().value);
    }
  }

  return {
    /** A picture of a point; it is empty until it is there. */
    picture(index, alt = '') {
      const picture = make('img', { class: 'cs-map-thumbnail', alt, draggable: 'false', decoding: 'async' });
      const address = known.get(index);
      if (address) picture.src = address;
      else {
        if (!waiting.has(index)) waiting.set(index, []);
        waiting.get(index).push(picture);
        queueMicrotask(fetchWaiting);
      }
      return picture;
    },
    forget() {
      known = new Map();
      waiting = new Map();
    },
  };
}
