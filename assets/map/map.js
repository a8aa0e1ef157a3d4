// The map: choosing, gathering and searching pictures, and what comes from Python. What comes later than the points
// (captions, names, how far each point can be trusted) is fetched until there is no more.

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
