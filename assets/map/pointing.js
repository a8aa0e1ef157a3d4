// Pointing at the map: hovering, clicking, and going from picture to picture by the keyboard.

import { make } from '../common/dom.js';

const DWELL_MILLISECONDS = 140;
const CLICK_PIXELS = 5;
/** What ends a press: the browser may also take the pointer over, to scroll. */
const RELEASES = ['pointerup', 'pointercancel'];

function nearestTo(x, y, horizontal, vertical) {
  let best = 0;
  horizontal.forEach((px, index) => { if (Math.hypot(px - x, vertical[index] - y) < Math.hypot(horizontal[best] - x, vertical[best] - y)) best = index; });
  return best;
}

/** Listen to pointer and keys on the map's stage; `choose` hears the point. Returns what zooms by a factor. */
export function listenToPointer({ view, stage, holder, hover, thumbnails, callouts, chosen, drawRings }, choose) {
  const placeOf = (event) => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  function underPointer(event) {
    const place = placeOf(event);
    const pictured = callouts.at(...place);
    return pictured >= 0 ? pictured : view.plot.pointAt(...place);
  }

  let dwelling = 0;
  let pressed = null;

  function setHovered(index) {
    if (index === view.hovered) return;
    view.hovered = index;
    clearTimeout(dwelling);
    hover.hidden = true;
    holder.classList.toggle('is-over', index >= 0);
    drawRings();
    if (index >= 0) dwelling = setTimeout(() => showHover(index), DWELL_MILLISECONDS);
  }

  function showHover(index) {
    if (index !== view.hovered || pressed) return;
    const [x, y] = view.plot.place(index);
    hover.replaceChildren(thumbnails.picture(index), make('strong', {}, view.map.names[index]), make('span', { dir: 'auto' }, view.map.captions[index] || view.map.labels[index] || ''));
    hover.hidden = false;
    const [width, height] = [hover.offsetWidth, hover.offsetHeight];
    const left = x + 16 + width < stage.clientWidth ? x + 16 : x - width - 16;
    hover.style.left = `${Math.max(4, Math.min(left, stage.clientWidth - width - 4))}px`;
    hover.style.top = `${Math.max(4, Math.min(y - height / 2, stage.clientHeight - height - 4))}px`;
  }


  function release(event) {
    for (const kind of RELEASES) document.removeEventListener(kind, release, true);
    const from = pressed;
    pressed = null;
    if (!from || event.type === 'pointercancel' || Math.hypot(event.clientX - from[0], event.clientY - from[1]) > CLICK_PIXELS) return;
    const index = underPointer(event);
    if (index >= 0) choose(index);
  }

  stage.addEventListener('pointermove', (event) => { if (view.plot && view.map && !event.buttons && event.pointerType === 'mouse') setHovered(underPointer(event)); }, true);
  stage.addEventListener('pointerleave', () => { if (view.plot) setHovered(-1); });
  stage.addEventListener('pointerdown', (event) => {
    if (!view.plot || event.button !== 0) return;
    pressed = [event.clientX, event.clientY];
    clearTimeout(dwelling);
    hover.hidden = true;
    for (const kind of RELEASES) document.addEventListener(kind, release, true);
  }, true);

  /** Nearer or farther, around the chosen point where there is one. */
  const zoom = (factor) => view.plot.zoomBy(factor, chosen.index);

  /** Arrows go to the nearest point in that direction. */
  function step(direction) {
    const [horizontal, vertical] = view.plot.places();
    const from = chosen.index;
    if (from < 0) return nearestTo(stage.clientWidth / 2, stage.clientHeight / 2, horizontal, vertical);
    let best = -1;
    let least = Infinity;
    for (let index = 0; index < horizontal.length; index += 1) {
      const [dx, dy] = [horizontal[index] - horizontal[from], vertical[index] - vertical[from]];
      const ahead = dx * direction[0] + dy * direction[1];
      const aside = Math.abs(dx * direction[1]) + Math.abs(dy * direction[0]);
      if (ahead <= 0.5 || aside > 2 * ahead) continue;
      const cost = ahead + 2 * aside;
      if (cost < least) { least = cost; best = index; }
    }
    return best;
  }

  stage.addEventListener('keydown', (event) => {
    if (!view.plot || !view.map || event.ctrlKey || event.metaKey || event.altKey) return;
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const act = { '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), 0: () => view.plot.fit(), Escape: () => choose(-1) }[event.key];
    if (!direction && !act) return;
    event.preventDefault();
    event.stopPropagation();
    if (act) { act(); return; }
    const next = step(direction);
    if (next >= 0) choose(next);
  });

  return zoom;
}
