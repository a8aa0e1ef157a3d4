// What the map's page is made of: points by Plotly, pictures and names above them, and a side panel. What is looked at
// one by one (pictures, neighbours) is asked for, so that the value stays small. A saved file brings its own answers.

const DWELL_MILLISECONDS = 140;
const NEWS_MILLISECONDS = 700;
const CLICK_PIXELS = 5;
const UNREACHABLE = 'The server cannot be reached, so something is missing here; it is asked again when you go on.';
const REST_MILLISECONDS = 160;

let map = null; // names, labels, folders, copies, x, y, captions, clusters, clusterNames, recall, quality
let lit = null; // the points that stand out, or null for all
let near = []; // the neighbours of the chosen point
let hovered = -1;
let painted = { colours: OTHER, legend: [] };
let plot = null;
let latest = 0;

const isSavedFile = Boolean(props.value?.answers);
/** What the server answers about this map: null where that has left its memory, undefined where it cannot be reached. */
async function ask(question, about) {
  if (isSavedFile) return answerFromFile(question, about);
  const { id } = map;
  const answer = await insist(() => server[question]({ map: id, ...about }));
  if (answer === undefined) tell(UNREACHABLE);
  else if (note.textContent === UNREACHABLE) tell(map?.note);
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
const listButton = make('button', { type: 'button', class: 'cs-button', onclick: () => showGallery('All pictures', map.names.map((_, index) => index), null, null) }, 'List all');
const colourMenu = make('select', { class: 'cs-field', 'aria-label': 'Colour by' });
const colourWord = make('input', { class: 'cs-field cs-map-word', type: 'text', placeholder: 'a word', 'aria-label': 'Word of the caption to colour by', hidden: true });
const modes = [['pan', 'Move'], ['lasso', 'Lasso'], ['select', 'Box']].map(([mode, text]) => make('button', { type: 'button', class: 'cs-button', 'aria-pressed': String(mode === 'pan'), 'data-mode': mode, onclick: () => setMode(mode) }, text));
const zooms = [['+', 'Zoom in', () => zoom(1.5)], ['−', 'Zoom out', () => zoom(1 / 1.5)], ['Fit', 'Show the whole map', () => plot.fit()]]
  .map(([text, label, act]) => make('button', { type: 'button', class: 'cs-button', 'aria-label': label, title: label, onclick: act }, text));
const pngButton = make('button', { type: 'button', class: 'cs-button', onclick: savePicture }, 'PNG');
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
  get captionsComing() { return map.working; },
  name: (index) => map.names[index],
  caption: (index) => map.captions[index] || '',
  thumbnail: (index) => thumbnails.picture(index),
  picture: (index) => ask('map_picture', { index }),
  neighbours: (index) => ask('map_neighbours', { index }),
  facts: describe,
};
const chosen = makeChosenPanel(data, {
  home: stage,
  choose,
  close: () => choose(-1),
  open: (tab) => trigger('point_opened', { map: map.id, index: chosen.index, tab }),
  neighbours: (index, others) => { near = others; drawRings(); },
});
const gallery = makeGallery(data, { home: stage, choose, save: (kind, indices) => trigger('export_wanted', { kind, indices }), clear: clearGallery });
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
  if (map.labels[index]) facts.push(['Label', map.labels[index]]);
  if (map.folders[index]) facts.push(['Folder', map.folders[index]]);
  const cluster = map.clusters[index];
  if (cluster >= 0 && map.clusterNames[cluster]) facts.push(['Cluster', map.clusterNames[cluster]]);
  if (map.recall) facts.push(['Its place', `${Math.round(map.recall[index] * map.k)} of its ${map.k} true neighbours are near it on the map`]);
  const copies = map.copies.flatMap((group, other) => (group === map.copies[index] && other !== index ? [map.names[other]] : []));
  if (copies.length) facts.push([copies.length === 1 ? 'Copy' : 'Copies', copies.slice(0, 6).join(', ') + (copies.length > 6 ? ` and ${copies.length - 6} more` : '')]);
  return facts;
}

const speak = (text) => setText(spoken, text);

// ---- colours ----

function drawColourMenu() {
  const before = colourMenu.value;
  const offered = colourings(map);
  colourMenu.replaceChildren(...offered.map(({ key, title }) => option(key, title)));
  if (offered.some(({ key }) => key === before)) colourMenu.value = before;
}

function paint() {
  const wanted = colourings(map).find(({ key }) => key === colourMenu.value);
  painted = wanted.paint(colourWord.value);
  colourWord.hidden = wanted.key !== 'word';
  legend.dataset.kind = wanted.key;
  const entries = painted.legend.map(({ colour, text, count, holds }) => make('li', {}, make('button', { type: 'button', class: 'cs-map-kind', title: 'Show these', onclick: () => pick(text, holds) },
    make('span', { class: 'cs-map-dot', style: `background-color: ${colour}`, 'aria-hidden': 'true' }), make('span', {}, text), make('span', { class: 'cs-hint' }, String(count)))));
  if (painted.waiting) entries.push(make('li', { class: 'cs-hint' }, 'Being measured…'));
  if (wanted.key === 'recall' && painted.legend.length) entries.unshift(make('li', { class: 'cs-hint' }, 'true neighbours near it:'));
  legend.replaceChildren(...entries);
}

async function repaint() {
  paint();
  await plot?.paint(painted.colours, lit);
  layOut();
}

const colourOf = (index) => (Array.isArray(painted.colours) ? painted.colours[index] : painted.colours);

function pick(text, holds) {
  const indices = map.names.flatMap((_, index) => (holds(index) ? [index] : []));
  showGallery(`${text}: ${indices.length}`, indices);
}

// ---- what lies above the points ----

let resting = 0;

function follow() {
  if (!plot || !map) return;
  callouts.follow(plot.place);
  names.follow(plot.places(), stage.clientWidth, stage.clientHeight);
  drawRings();
}

function layOut() {
  if (!plot || !map || !stage.clientWidth) return;
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  const places = plot.places();
  const taken = [...names.follow(places, width, height), [0, height - 30, 220, height]];
  const first = [chosen.index, ...(lit ? [...lit] : []), ...callouts.indices].filter((index) => index >= 0);
  const layout = layOutCallouts(...places, width, height, { first, taken, groups: map.copies });
  if (lit) layout.placed = layout.placed.filter(({ index }) => lit.has(index) || index === chosen.index);
  callouts.show(layout, colourOf);
  callouts.mark(chosen.index);
  follow();
  setText(share, `${callouts.count} of ${map.names.length} shown as pictures`);
  stage.dataset.pictures = callouts.count;
}

function onView(isResting) {
  follow();
  clearTimeout(resting);
  resting = setTimeout(layOut, isResting ? 40 : REST_MILLISECONDS);
}

/** Rings around the chosen point, those most like it, and the one under the pointer. */
function drawRings() {
  if (!plot) return;
  const pen = rings.clean();
  const ink = getComputedStyle(stage);
  const ring = (index, radius, width, colour) => {
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.arc(...plot.place(index), radius, 0, 2 * Math.PI);
    pen.stroke();
  };
  for (const index of near) ring(index, 8, 2, ink.getPropertyValue('--cs-accent'));
  if (chosen.index >= 0) ring(chosen.index, 10, 3, ink.color);
  if (hovered >= 0) ring(hovered, 8, 2, ink.color);
}
