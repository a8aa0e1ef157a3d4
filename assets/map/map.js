// The map: choosing, gathering and searching pictures, and what comes from Python. What comes later than the points
// (captions, names, how far each point can be trusted) is fetched until there is no more.

import { setText } from '../common/dom.js';
import { insist, pause } from './ask.js';
import { hasWord } from './colours.js';
import { cosine } from './panel.js';
import { drawMap, saveBlob } from './picture.js';
import { loadPlotly, makePlot } from './plot.js';
import { listenToPointer } from './pointing.js';
import { makeMapStage } from './stage.js';

const NEWS_MILLISECONDS = 700;

export function mount(part) {
  const { root, upload, followValue } = part;
  const on = {};
  const page = makeMapStage(part, on);
  const {
    view, ask, tell, stage, holder, hint, bar, search, likeFile, likeButton, colourMenu, colourWord, modes, thumbnails, callouts, names, chosen, gallery, belief,
    describe, speak, drawColourMenu, paint, repaint, layOut, onView, drawRings,
  } = page;

  // ---- choosing, gathering, searching ----

  async function choose(index) {
    view.near = [];
    const shown = chosen.show(index);
    hint.hidden = index >= 0 || gallery.indices.length > 0;
    drawRings();
    if (index < 0) { callouts.mark(-1); return; }
    speak([view.map.names[index], view.map.captions[index], ...describe(index).map((fact) => fact.join(': '))].filter(Boolean).join('. '));
    await view.plot.reveal(index);
    layOut();
    await shown;
  }

  async function showGallery(title, indices, feet = null, standing = indices) {
    view.lit = standing ? new Set(standing) : null;
    gallery.show(title, indices, feet);
    hint.hidden = true;
    speak(title);
    await view.plot.paint(view.painted.colours, view.lit);
    layOut();
  }

  async function clearGallery() {
    view.lit = null;
    gallery.clear();
    hint.hidden = chosen.index >= 0;
    search.value = '';
    await view.plot.clearLasso();
    await view.plot.paint(view.painted.colours, null);
    layOut();
  }

  function lasso(indices) {
    view.plot.clearLasso();
    showGallery(`${indices.length} selected`, indices);
  }

  function find() {
    const wanted = search.value.trim().toLowerCase();
    if (!wanted) { clearGallery(); return; }
    const found = view.map.names.flatMap((name, index) => (name.toLowerCase().includes(wanted) || hasWord(view.map.captions[index] || '', wanted) ? [index] : []));
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
    await view.plot?.setMode(mode);
  }

  colourMenu.addEventListener('change', repaint);
  colourWord.addEventListener('input', repaint);

  async function savePicture() {
    const style = getComputedStyle(stage);
    const drawn = { width: stage.clientWidth, height: stage.clientHeight, background: style.backgroundColor, ink: style.color };
    saveBlob(await drawMap({ ...drawn, places: view.plot.places(), colours: view.painted.colours, lit: view.lit, callouts: callouts.drawn(), names: names.drawn() }), 'map.png');
  }

  // ---- what comes from Python ----

  function take(news) {
    view.map.captions.push(...news.captions);
    view.map.working = news.working;
    const named = JSON.stringify(news.clusterNames) !== JSON.stringify(view.map.clusterNames);
    Object.assign(view.map, { clusterNames: news.clusterNames, recall: news.recall ?? view.map.recall, k: news.k, quality: news.quality ?? view.map.quality });
    if (named) names.show(view.map.clusters, view.map.clusterNames);
    belief.show(view.map.quality);
    if (named || news.recall || (news.captions.length && colourMenu.value === 'word')) repaint();
    chosen.refresh();
  }

  /** Fetch what is found after the points were drawn, until nothing more comes. */
  async function followNews(id) {
    while (view.map?.id === id && view.map.working && root.isConnected) {
      const news = await ask('map_news', { known: view.map.captions.length, knows_recall: Boolean(view.map.recall) });
      if (view.map?.id !== id) return;
      if (news === null) tell('This map has left the server’s memory; draw it again.');
      take(news ?? { captions: [], working: false, clusterNames: view.map.clusterNames, k: view.map.k });
      if (view.map.working) await pause(NEWS_MILLISECONDS);
    }
  }

  async function showMap(next) {
    const generation = ++view.latest;
    const Plotly = await insist(() => loadPlotly(next.plotly?.url));
    if (generation !== view.latest) return;
    bar.hidden = stage.hidden = !Plotly;
    if (!Plotly) {
      root.hidden = false;
      hint.hidden = true;
      tell('The map could not be drawn, because what draws it did not arrive; reload the page.');
      return;
    }
    const before = view.map;
    // Where pictures were left out, as a refit does with those it cannot read any more, numbers mean others than before.
    const keepsNumbers = before?.names.every((name, index) => name === next.names[index]);
    const change = keepsNumbers && next.after === before.id ? next.change : 'new';
    view.map = { ...next, captions: next.captions ?? [], recall: next.recall ?? null, quality: next.quality ?? null };
    root.hidden = false;
    root.dataset.map = 'drawing';
    // Where points keep their numbers, their pictures stay and travel along.
    if (change === 'new') {
      thumbnails.forget();
      callouts.clear();
      view.lit = null;
      view.near = [];
      chosen.show(-1);
      gallery.clear();
      hint.hidden = false;
      search.value = '';
    }
    view.plot ??= makePlot(Plotly, holder, { onView, onLasso: lasso });
    tell(view.map.note);
    stage.setAttribute('aria-label', `Map of ${view.map.names.length} pictures. Arrow keys go from point to point, plus and minus zoom, 0 shows everything.`);
    drawColourMenu();
    paint();
    names.show(view.map.clusters, view.map.clusterNames);
    belief.show(view.map.quality);
    if (change === 'refit') {
      await view.plot.paint(view.painted.colours, view.lit);
      await view.plot.glide(view.map.x, view.map.y);
    } else await view.plot.show(view.map.x, view.map.y, view.painted.colours, change === 'added');
    if (generation !== view.latest) return;
    if (change === 'added') {
      const fresh = view.map.names.map((_, index) => index).slice(before.names.length);
      await showGallery(fresh.length === 1 ? '1 new picture' : `${fresh.length} new pictures`, fresh);
    }
    layOut();
    root.dataset.map = 'drawn';
    root.dataset.change = change;
    followNews(view.map.id);
  }

  function show(value) {
    if (value.map) { if (value.map.id !== view.map?.id) showMap(value.map); else view.map.working = view.map.working || value.map.working; }
    else { view.latest += 1; view.map = null; root.hidden = true; }
  }

  new ResizeObserver(async () => {
    if (!view.plot || !view.map || !stage.clientWidth) return;
    await view.plot.resize();
    onView(true);
  }).observe(stage);

  on.choose = choose;
  on.showGallery = showGallery;
  on.clearGallery = clearGallery;
  on.setMode = setMode;
  on.savePicture = savePicture;
  on.zoom = listenToPointer(page, choose);
  followValue(show);
}
