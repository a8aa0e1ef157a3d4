// What the map's page is made of: points by Plotly, pictures and names above them, and a side panel. What is looked at
// one by one (pictures, neighbours) is asked for, so that the value stays small. A saved file brings its own answers.

import { make, setText } from '../common/dom.js';
import { insist } from './ask.js';
import { makeBelief } from './belief.js';
import { layOutCallouts, makeCallouts, makeSheet } from './callouts.js';
import { OTHER, colourings } from './colours.js';
import { makeNames } from './names.js';
import { makeChosenPanel, makeGallery } from './panel.js';
import { makeThumbnails } from './thumbnails.js';

const UNREACHABLE = 'The server cannot be reached, so something is missing here; it is asked again when you go on.';
const REST_MILLISECONDS = 160;

/** The parts of the map's page, and what they show of `view`; `on` hears what is wanted, and is filled in later. */
export function makeMapStage({ root, props, trigger, server }, on) {
  const view = {
    map: null, // names, labels, folders, copies, x, y, captions, clusters, clusterNames, recall, quality
    lit: null, // the points that stand out, or null for all
    near: [], // the neighbours of the chosen point
    hovered: -1,
    painted: { colours: OTHER, legend: [] },
    plot: null,
    latest: 0,
  };

  const isSavedFile = Boolean(props.value?.answers);
  /** What the server answers about this map: null where that has left its memory, undefined where it cannot be reached. */
  async function ask(question, about) {
    if (isSavedFile) return answerFromFile(question, about);
    const { id } = view.map;
    const answer = await insist(() => server[question]({ map: id, ...about }));
    if (answer === undefined) tell(UNREACHABLE);
    else if (note.textContent === UNREACHABLE) tell(view.map?.note);
    return answer;
  }

  /** One sentence below the map. */
  function tell(sentence) {
    setText(note, sentence || '');
    note.hidden = !sentence;
  }

  function answerFromFile(question, { indices, index }) {
    const { thumbnails: pictures, neighbours } = props.value.answers;
    if (question === 'map_thumbnails') return Object.fromEntries(indices.map((i) => [i, pictures[i]]));
    if (question === 'map_picture') return pictures[index];
    return question === 'map_neighbours' ? neighbours[index] : undefined;
  }

  // ---- what the page is made of ----

  const option = (value, text) => make('option', { value }, text);
  const search = make('input', { class: 'cs-field', dir: 'auto', type: 'search', placeholder: 'File name or word', 'aria-label': 'Search by file name or a word of the caption' });
  const likeFile = make('input', { type: 'file', accept: 'image/*', hidden: true, 'aria-label': 'A picture to find what looks like it' });
  const likeButton = make('button', { type: 'button', class: 'cs-button', title: 'Choose a picture, and those that look like it light up', onclick: () => likeFile.click() }, 'Find by picture…');
  const listButton = make('button', { type: 'button', class: 'cs-button', onclick: () => on.showGallery('All pictures', view.map.names.map((_, index) => index), null, null) }, 'List all');
  const colourMenu = make('select', { class: 'cs-field', 'aria-label': 'Colour by' });
  const colourWord = make('input', { class: 'cs-field cs-map-word', type: 'text', placeholder: 'a word', 'aria-label': 'Word of the caption to colour by', hidden: true });
  const modes = [['pan', 'Move'], ['lasso', 'Lasso'], ['select', 'Box']].map(([mode, text]) => make('button', { type: 'button', class: 'cs-button', 'aria-pressed': String(mode === 'pan'), 'data-mode': mode, onclick: () => on.setMode(mode) }, text));
  const zooms = [['+', 'Zoom in', () => on.zoom(1.5)], ['−', 'Zoom out', () => on.zoom(1 / 1.5)], ['Fit', 'Show the whole map', () => view.plot.fit()]]
    .map(([text, label, act]) => make('button', { type: 'button', class: 'cs-button', 'aria-label': label, title: label, onclick: act }, text));
  const pngButton = make('button', { type: 'button', class: 'cs-button', onclick: () => on.savePicture() }, 'PNG');
  // The page draws its own PNG, of what is in view; pictures are packed for a selection alone.
  const saves = (props.value.formats || []).filter(([kind]) => kind !== 'png' && kind !== 'zip')
    .map(([kind, text, about]) => make('button', { type: 'button', class: 'cs-button', title: `Save ${about}`, onclick: () => trigger('export_wanted', { kind, indices: null }) }, text));

  const holder = make('div', { class: 'cs-map-plot' });
  const hover = make('div', { class: 'cs-map-hover', hidden: true, 'aria-hidden': 'true' });
  const share = make('p', { class: 'cs-map-share' });
  const stage = make('div', { class: 'cs-map-stage', tabindex: '0', role: 'application', 'aria-label': 'Map of pictures' }, holder);
  const spoken = make('p', { class: 'cs-map-spoken', role: 'status' });
  const legend = make('ul', { class: 'cs-map-legend', 'aria-label': 'What the colours say' });
  const note = make('p', { class: 'cs-hint cs-map-note', role: 'status' });
  const hint = make('p', { class: 'cs-hint cs-map-hint' }, 'Click a picture or a point to see it large with those most like it. Lasso some to gather them here.');

  const thumbnails = makeThumbnails((indices) => ask('map_thumbnails', { indices }));
  const callouts = makeCallouts(stage, (index) => thumbnails.picture(index));
  const names = makeNames(stage);
  const rings = makeSheet(stage, 'cs-map-rings');
  stage.append(hover, share);

  const data = {
    standalone: isSavedFile,
    get captionsComing() { return view.map.working; },
    name: (index) => view.map.names[index],
    caption: (index) => view.map.captions[index] || '',
    thumbnail: (index) => thumbnails.picture(index),
    picture: (index) => ask('map_picture', { index }),
    neighbours: (index) => ask('map_neighbours', { index }),
    facts: describe,
  };
  const chosen = makeChosenPanel(data, {
    home: stage,
    choose: (index) => on.choose(index),
    close: () => on.choose(-1),
    open: (tab) => trigger('point_opened', { map: view.map.id, index: chosen.index, tab }),
    neighbours: (index, others) => { view.near = others; drawRings(); },
  });
  const gallery = makeGallery(data, { home: stage, choose: (index) => on.choose(index), save: (kind, indices) => trigger('export_wanted', { kind, indices }), clear: () => on.clearGallery() });
  const belief = makeBelief();

  const bar = make('div', { class: 'cs-map-bar', role: 'toolbar', 'aria-label': 'Map' },
    make('div', { class: 'cs-map-tools cs-map-searching' }, search, isSavedFile ? null : likeButton, likeFile, listButton),
    make('label', { class: 'cs-map-tools' }, make('span', { class: 'cs-hint' }, 'Colour'), colourMenu, colourWord),
    make('div', { class: 'cs-map-tools', role: 'group', 'aria-label': 'What the pointer does' }, ...modes),
    make('div', { class: 'cs-map-tools', role: 'group', 'aria-label': 'Zoom' }, ...zooms),
    make('div', { class: 'cs-map-tools', role: 'group', 'aria-label': 'Save the map', 'data-for': 'desk' }, make('span', { class: 'cs-hint' }, 'Save'), pngButton, ...(isSavedFile ? [] : saves)));
  const body = make('div', { class: 'cs-map-body' },
    make('div', { class: 'cs-map-left' }, stage, legend, note, belief.node),
    make('div', { class: 'cs-map-side' }, hint, chosen.node, gallery.node));
  root.classList.add('cs-map');
  root.append(bar, body, spoken);
  root.hidden = true;

  // ---- words ----

  function describe(index) {
    const facts = [];
    if (view.map.labels[index]) facts.push(['Label', view.map.labels[index]]);
    if (view.map.folders[index]) facts.push(['Folder', view.map.folders[index]]);
    const cluster = view.map.clusters[index];
    if (cluster >= 0 && view.map.clusterNames[cluster]) facts.push(['Cluster', view.map.clusterNames[cluster]]);
    if (view.map.recall) facts.push(['Its place', `${Math.round(view.map.recall[index] * view.map.k)} of its ${view.map.k} true neighbours are near it on the map`]);
    const copies = view.map.copies.flatMap((group, other) => (group === view.map.copies[index] && other !== index ? [view.map.names[other]] : []));
    if (copies.length) facts.push([copies.length === 1 ? 'Copy' : 'Copies', copies.slice(0, 6).join(', ') + (copies.length > 6 ? ` and ${copies.length - 6} more` : '')]);
    return facts;
  }

  const speak = (text) => setText(spoken, text);

  // ---- colours ----

  function drawColourMenu() {
    const before = colourMenu.value;
    const offered = colourings(view.map);
    colourMenu.replaceChildren(...offered.map(({ key, title }) => option(key, title)));
    if (offered.some(({ key }) => key === before)) colourMenu.value = before;
  }

  function paint() {
    const wanted = colourings(view.map).find(({ key }) => key === colourMenu.value);
    view.painted = wanted.paint(colourWord.value);
    colourWord.hidden = wanted.key !== 'word';
    legend.dataset.kind = wanted.key;
    const entries = view.painted.legend.map(({ colour, text, count, holds }) => make('li', {}, make('button', { type: 'button', class: 'cs-map-kind', title: 'Show these', onclick: () => pick(text, holds) },
      make('span', { class: 'cs-map-dot', style: `background-color: ${colour}`, 'aria-hidden': 'true' }), make('span', {}, text), make('span', { class: 'cs-hint' }, String(count)))));
    if (view.painted.waiting) entries.push(make('li', { class: 'cs-hint' }, 'Being measured…'));
    if (wanted.key === 'recall' && view.painted.legend.length) entries.unshift(make('li', { class: 'cs-hint' }, 'true neighbours near it:'));
    legend.replaceChildren(...entries);
  }

  async function repaint() {
    paint();
    await view.plot?.paint(view.painted.colours, view.lit);
    layOut();
  }

  const colourOf = (index) => (Array.isArray(view.painted.colours) ? view.painted.colours[index] : view.painted.colours);

  function pick(text, holds) {
    const indices = view.map.names.flatMap((_, index) => (holds(index) ? [index] : []));
    on.showGallery(`${text}: ${indices.length}`, indices);
  }

  // ---- what lies above the points ----

  let resting = 0;

  function follow() {
    if (!view.plot || !view.map) return;
    callouts.follow(view.plot.place);
    names.follow(view.plot.places(), stage.clientWidth, stage.clientHeight);
    drawRings();
  }

  function layOut() {
    if (!view.plot || !view.map || !stage.clientWidth) return;
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    const places = view.plot.places();
    const taken = [...names.follow(places, width, height), [0, height - 30, 220, height]];
    const first = [chosen.index, ...(view.lit ? [...view.lit] : []), ...callouts.indices].filter((index) => index >= 0);
    const layout = layOutCallouts(...places, width, height, { first, taken, groups: view.map.copies });
    if (view.lit) layout.placed = layout.placed.filter(({ index }) => view.lit.has(index) || index === chosen.index);
    callouts.show(layout, colourOf);
    callouts.mark(chosen.index);
    follow();
    setText(share, `${callouts.count} of ${view.map.names.length} shown as pictures`);
    stage.dataset.pictures = callouts.count;
  }

  function onView(isResting) {
    follow();
    clearTimeout(resting);
    resting = setTimeout(layOut, isResting ? 40 : REST_MILLISECONDS);
  }

  /** Rings around the chosen point, those most like it, and the one under the pointer. */
  function drawRings() {
    if (!view.plot) return;
    const pen = rings.clean();
    const ink = getComputedStyle(stage);
    const ring = (index, radius, width, colour) => {
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.beginPath();
      pen.arc(...view.plot.place(index), radius, 0, 2 * Math.PI);
      pen.stroke();
    };
    for (const index of view.near) ring(index, 8, 2, ink.getPropertyValue('--cs-accent'));
    if (chosen.index >= 0) ring(chosen.index, 10, 3, ink.color);
    if (view.hovered >= 0) ring(view.hovered, 8, 2, ink.color);
  }

  return {
    view, ask, tell, stage, holder, hover, hint, bar, note, search, likeFile, likeButton, colourMenu, colourWord, modes, thumbnails, callouts, names, chosen, gallery, belief,
    describe, speak, drawColourMenu, paint, repaint, layOut, onView, drawRings,
  };
}
