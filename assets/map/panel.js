// Beside the map: the picture that was chosen with those most like it, and a gallery of whatever was lassoed,
// found or picked from the legend.

import { hideKeepingFocus, make, setText } from '../common/dom.js';

const GALLERY_STEP = 60;
export const cosine = (similarity) => similarity.toFixed(similarity > 0.995 && similarity < 1 ? 4 : 2);

function makePictureButton(data, index, foot, choose) {
  const label = [data.name(index), data.caption(index), foot].filter(Boolean).join(', ');
  return make('button', { type: 'button', class: 'cs-map-tile', 'aria-label': label, title: data.name(index), onclick: () => choose(index) },
    data.thumbnail(index), foot ? make('span', { class: 'cs-map-tile-foot', 'aria-hidden': 'true' }, foot) : null);
}

/** The chosen picture. `data` answers for points, `on` hears what is wanted; its `home` takes the focus of what goes. */
export function makeChosenPanel(data, on) {
  const heading = make('h2', { class: 'cs-map-name', tabindex: '-1' });
  const picture = make('img', { class: 'cs-map-large', alt: '' });
  const caption = make('p', { class: 'cs-map-caption', dir: 'auto' });
  const facts = make('dl', { class: 'cs-map-facts' });
  const actions = make('div', { class: 'cs-map-actions' },
    make('button', { type: 'button', class: 'cs-button', onclick: () => on.open('caption') }, 'Open in Caption'),
    make('button', { type: 'button', class: 'cs-button', onclick: () => on.open('attention') }, 'Open in Attention'));
  actions.hidden = data.standalone;
  const about = make('h3', {}, 'Most like it');
  const near = make('ol', { class: 'cs-map-tiles' });
  const node = make('section', { class: 'cs-map-chosen', 'aria-label': 'Chosen picture' },
    make('div', { class: 'cs-map-head' }, heading, make('button', { type: 'button', class: 'cs-icon-button', 'aria-label': 'Close', title: 'Close', onclick: on.close }, '×')),
    picture, caption, actions, facts, about, make('p', { class: 'cs-hint' }, 'By cosine in feature space, not by place on the map.'), near);
  node.hidden = true;
  let shown = -1;

  function tell(index) {
    setText(caption, data.caption(index) || (data.captionsComing ? 'Its caption is being written…' : 'No caption.'));
    caption.classList.toggle('is-missing', !data.caption(index));
    facts.replaceChildren(...data.facts(index).flatMap(([name, text]) => [make('dt', {}, name), make('dd', {}, text)]));
  }

  return {
    node,
    get index() { return shown; },
    async show(index) {
      shown = index;
      hideKeepingFocus(node, index < 0, on.home);
      if (index < 0) return;
      setText(heading, data.name(index));
      tell(index);
      picture.removeAttribute('src');
      picture.alt = data.caption(index) || data.name(index);
      if (near.contains(document.activeElement)) heading.focus(); // the tile that was chosen goes with the others
      near.replaceChildren();
      const [address, alike] = await Promise.all([data.picture(index), data.neighbours(index)]);
      if (shown !== index) return;
      if (address) picture.src = address;
      near.replaceChildren(...(alike ?? []).map(([other, similarity]) => make('li', {}, makePictureButton(data, other, cosine(similarity), on.choose))));
      about.hidden = !near.children.length;
      on.neighbours(index, (alike ?? []).map(([other]) => other));
    },
    refresh() { if (shown >= 0) tell(shown); },
  };
}

/** Pictures side by side, with ways to take them along. */
export function makeGallery(data, on) {
  const heading = make('h2', { tabindex: '-1' });
  const tiles = make('ol', { class: 'cs-map-tiles' });
  const more = make('button', { type: 'button', class: 'cs-button', onclick: () => { limit += GALLERY_STEP * 4; draw(); } });
  const kinds = data.standalone ? [] : [['csv', 'CSV'], ['json', 'JSON'], ['npz', 'NPZ'], ['zip', 'ZIP of files']];
  const saves = make('div', { class: 'cs-map-actions', role: 'group', 'aria-label': 'Save the selection' },
    ...kinds.map(([kind, text]) => make('button', { type: 'button', class: 'cs-button', onclick: () => on.save(kind, content.indices) }, text)));
  const node = make('section', { class: 'cs-map-gallery', 'aria-label': 'Gallery' },
    make('div', { class: 'cs-map-head' }, heading, make('button', { type: 'button', class: 'cs-button', onclick: () => on.clear() }, 'Clear')),
    saves, tiles, more);
  node.hidden = true;
  let content = { title: '', indices: [], feet: null };
  let limit = GALLERY_STEP;

  function draw() {
    hideKeepingFocus(node, !content.title, on.home);
    setText(heading, content.title);
    if (tiles.contains(document.activeElement)) heading.focus();
    saves.hidden = !content.indices.length || !kinds.length;
    tiles.replaceChildren(...content.indices.slice(0, limit).map((index, place) => make('li', {}, makePictureButton(data, index, content.feet?.[place] ?? '', on.choose))));
    const left = content.indices.length - limit;
    hideKeepingFocus(more, left <= 0, heading);
    setText(more, `Show more (${left})`);
  }

  return {
    node,
    get indices() { return content.indices; },
    show(title, indices, feet = null) {
      content = { title, indices, feet };
      limit = GALLERY_STEP;
      draw();
    },
    clear() { content = { title: '', indices: [], feet: null }; draw(); },
  };
}
