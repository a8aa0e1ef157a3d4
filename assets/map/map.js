// The map: points by Plotly, pictures and names above them, and a side panel. What comes later than the points
// (captions, names, how far each point can be trusted) and what is looked at one by one (pictures, neighbours) is
// asked for, so that the value stays small. A saved file brings its own answers along.

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
const saves = [['html', 'HTML', 'One file that works with no network'], ['csv', 'CSV', 'Names, labels, positions and captions'], ['json', 'JSON', 'The same, and how good the map is'], ['npz', 'NPZ', 'Features and positions for NumPy']]
  .map(([kind, text, title]) => make('button', { type: 'button', class: 'cs-button', title, onclick: () => trigger('export_wanted', { kind, indices: null }) }, text));

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

// ---- pointing ----

const placeOf = (event) => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
function underPointer(event) {
  const place = placeOf(event);
  const pictured = callouts.at(...place);
  return pictured >= 0 ? pictured : plot.pointAt(...place);
}

let dwelling = 0;
let pressed = null;

function setHovered(index) {
  if (index === hovered) return;
  hovered = index;
  clearTimeout(dwelling);
  hover.hidden = true;
  holder.classList.toggle('is-over', index >= 0);
  drawRings();
  if (index >= 0) dwelling = setTimeout(() => showHover(index), DWELL_MILLISECONDS);
}

function showHover(index) {
  if (index !== hovered || pressed) return;
  const [x, y] = plot.place(index);
  hover.replaceChildren(thumbnails.picture(index), make('strong', {}, map.names[index]), make('span', { dir: 'auto' }, map.captions[index] || map.labels[index] || ''));
  hover.hidden = false;
  const [width, height] = [hover.offsetWidth, hover.offsetHeight];
  const left = x + 16 + width < stage.clientWidth ? x + 16 : x - width - 16;
  hover.style.left = `${Math.max(4, Math.min(left, stage.clientWidth - width - 4))}px`;
  hover.style.top = `${Math.max(4, Math.min(y - height / 2, stage.clientHeight - height - 4))}px`;
}

/** What ends a press: the browser may also take the pointer over, to scroll. */
const RELEASES = ['pointerup', 'pointercancel'];

function release(event) {
  for (const kind of RELEASES) document.removeEventListener(kind, release, true);
  const from = pressed;
  pressed = null;
  if (!from || event.type === 'pointercancel' || Math.hypot(event.clientX - from[0], event.clientY - from[1]) > CLICK_PIXELS) return;
  const index = underPointer(event);
  if (index >= 0) choose(index);
}

stage.addEventListener('pointermove', (event) => { if (plot && map && !event.buttons && event.pointerType === 'mouse') setHovered(underPointer(event)); }, true);
stage.addEventListener('pointerleave', () => { if (plot) setHovered(-1); });
stage.addEventListener('pointerdown', (event) => {
  if (!plot || event.button !== 0) return;
  pressed = [event.clientX, event.clientY];
  clearTimeout(dwelling);
  hover.hidden = true;
  for (const kind of RELEASES) document.addEventListener(kind, release, true);
}, true);

/** Nearer or farther, around the chosen point where there is one. */
const zoom = (factor) => plot.zoomBy(factor, chosen.index);

/** Arrows go to the nearest point in that direction. */
function step(direction) {
  const [horizontal, vertical] = plot.places();
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

function nearestTo(x, y, horizontal, vertical) {
  let best = 0;
  horizontal.forEach((px, index) => { if (Math.hypot(px - x, vertical[index] - y) < Math.hypot(horizontal[best] - x, vertical[best] - y)) best = index; });
  return best;
}

stage.addEventListener('keydown', (event) => {
  if (!plot || !map || event.ctrlKey || event.metaKey || event.altKey) return;
  const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const act = { '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), 0: () => plot.fit(), Escape: () => choose(-1) }[event.key];
  if (!direction && !act) return;
  event.preventDefault();
  event.stopPropagation();
  if (act) { act(); return; }
  const next = step(direction);
  if (next >= 0) choose(next);
});

// ---- choosing, gathering, searching ----

async function choose(index) {
  near = [];
  const shown = chosen.show(index);
  hint.hidden = index >= 0 || gallery.indices.length > 0;
  drawRings();
  if (index < 0) { callouts.mark(-1); return; }
  speak([map.names[index], map.captions[index], ...describe(index).map((fact) => fact.join(': '))].filter(Boolean).join('. '));
  await plot.reveal(index);
  layOut();
  await shown;
}

async function showGallery(title, indices, feet = null, standing = indices) {
  lit = standing ? new Set(standing) : null;
  gallery.show(title, indices, feet);
  hint.hidden = true;
  speak(title);
  await plot.paint(painted.colours, lit);
  layOut();
}

async function clearGallery() {
  lit = null;
  gallery.clear();
  hint.hidden = chosen.index >= 0;
  search.value = '';
  await plot.clearLasso();
  await plot.paint(painted.colours, null);
  layOut();
}

function lasso(indices) {
  plot.clearLasso();
  showGallery(`${indices.length} selected`, indices);
}

function find() {
  const wanted = search.value.trim().toLowerCase();
  if (!wanted) { clearGallery(); return; }
  const found = map.names.flatMap((name, index) => (name.toLowerCase().includes(wanted) || hasWord(map.captions[index] || '', wanted) ? [index] : []));
  showGallery(`${found.length || 'Nothing'} found for “${search.value.trim()}”`, found, null, found.length ? found : null);
}

let searching = 0;
search.addEventListener('input', () => { clearTimeout(searching); searching = setTimeout(find, 250); });
search.addEventListener('keydown', (event) => { if (event.key === 'Enter') { event.preventDefault(); clearTimeout(searching); find(); } });

/** What the server says looks like a picture; undefined where the picture, or the question, did not get there. */
async function askLike(file) {
  const path = await upload(file).then((sent) => sent?.path, () => undefined);
  return path && ask('map_look_alike', { path, name: file.name });
}

async function findLike(file) {
  likeButton.disabled = true;
  setText(likeButton, 'Looking…');
  const answer = await askLike(file);
  likeButton.disabled = false;
  setText(likeButton, 'Find by picture…');
  if (!answer || answer.error) { showGallery(answer?.error ?? `${file.name} could not be sent; try again.`, [], null, null); return; }
  const indices = answer.found.map(([index]) => index);
  await showGallery(`Most like ${file.name}`, indices, answer.found.map(([, similarity]) => cosine(similarity)));
}
likeFile.addEventListener('change', () => { const [file] = likeFile.files; likeFile.value = ''; if (file) findLike(file); });

async function setMode(mode) {
  for (const button of modes) button.setAttribute('aria-pressed', String(button.dataset.mode === mode));
  await plot?.setMode(mode);
}

colourMenu.addEventListener('change', repaint);
colourWord.addEventListener('input', repaint);

async function savePicture() {
  const style = getComputedStyle(stage);
  const drawn = { width: stage.clientWidth, height: stage.clientHeight, background: style.backgroundColor, ink: style.color };
  saveBlob(await drawMap({ ...drawn, places: plot.places(), colours: painted.colours, lit, callouts: callouts.drawn(), names: names.drawn() }), 'image-map.png');
}

// ---- what comes from Python ----

function take(news) {
  map.captions.push(...news.captions);
  map.working = news.working;
  const named = JSON.stringify(news.clusterNames) !== JSON.stringify(map.clusterNames);
  Object.assign(map, { clusterNames: news.clusterNames, recall: news.recall ?? map.recall, k: news.k, quality: news.quality ?? map.quality });
  if (named) names.show(map.clusters, map.clusterNames);
  belief.show(map.quality);
  if (named || news.recall || (news.captions.length && colourMenu.value === 'word')) repaint();
  chosen.refresh();
}

/** Fetch what is found after the points were drawn, until nothing more comes. */
async function followNews(id) {
  while (map?.id === id && map.working && root.isConnected) {
    const news = await ask('map_news', { known: map.captions.length, knows_recall: Boolean(map.recall) });
    if (map?.id !== id) return;
    if (news === null) tell('This map has left the server’s memory; draw it again.');
    take(news ?? { captions: [], working: false, clusterNames: map.clusterNames, k: map.k });
    if (map.working) await pause(NEWS_MILLISECONDS);
  }
}

async function showMap(next) {
  const generation = ++latest;
  const Plotly = await insist(() => loadPlotly(next.plotly?.url));
  if (generation !== latest) return;
  bar.hidden = stage.hidden = !Plotly;
  if (!Plotly) {
    root.hidden = false;
    hint.hidden = true;
    tell('The map could not be drawn, because what draws it did not arrive; reload the page.');
    return;
  }
  const before = map;
  // Where pictures were left out, as a refit does with those it cannot read any more, numbers mean others than before.
  const keepsNumbers = before?.names.every((name, index) => name === next.names[index]);
  const change = keepsNumbers && next.after === before.id ? next.change : 'new';
  map = { ...next, captions: next.captions ?? [], recall: next.recall ?? null, quality: next.quality ?? null };
  root.hidden = false;
  root.dataset.map = 'drawing';
  // Where points keep their numbers, their pictures stay and travel along.
  if (change === 'new') {
    thumbnails.forget();
    callouts.clear();
    lit = null;
    near = [];
    chosen.show(-1);
    gallery.clear();
    hint.hidden = false;
    search.value = '';
  }
  plot ??= makePlot(Plotly, holder, { onView, onLasso: lasso });
  tell(map.note);
  stage.setAttribute('aria-label', `Map of ${map.names.length} pictures. Arrow keys go from point to point, plus and minus zoom, 0 shows everything.`);
  drawColourMenu();
  paint();
  names.show(map.clusters, map.clusterNames);
  belief.show(map.quality);
  if (change === 'refit') {
    await plot.paint(painted.colours, lit);
    await plot.glide(map.x, map.y);
  } else await plot.show(map.x, map.y, painted.colours, change === 'added');
  if (generation !== latest) return;
  if (change === 'added') {
    const fresh = map.names.map((_, index) => index).slice(before.names.length);
    await showGallery(fresh.length === 1 ? '1 new picture' : `${fresh.length} new pictures`, fresh);
  }
  layOut();
  root.dataset.map = 'drawn';
  root.dataset.change = change;
  followNews(map.id);
}

function show(value) {
  if (value.map) { if (value.map.id !== map?.id) showMap(value.map); else map.working = map.working || value.map.working; }
  else { latest += 1; map = null; root.hidden = true; }
}

new ResizeObserver(async () => {
  if (!plot || !map || !stage.clientWidth) return;
  await plot.resize();
  onView(true);
}).observe(stage);

followValue(show);
