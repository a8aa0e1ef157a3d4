// Small pictures of points, asked for when they come into view, many at once, and kept for a while.

const MOST_ASKED = 48;
const MOST_KEPT = 3000;

/** `ask` takes point numbers and promises `{number: data address}`. */
function makeThumbnails(ask) {
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
      const batch = [...waiting.entries()].slice(0, MOST_ASKED);
      for (const [index] of batch) waiting.delete(index);
      const found = (await ask(batch.map(([index]) => index))) ?? {};
      for (const [index, pictures] of batch) {
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
