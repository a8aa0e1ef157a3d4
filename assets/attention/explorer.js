// The explorer: a caption, and where the model looked for each of its words. The weights travel once; whatever is
// moved afterwards is drawn from them here, and asks nobody. The same script is the explorer in one file.

import { SORTS, isTraced, makeControls, makeSelect } from './controls.js';
import { makeMatrix } from './matrix.js';
import { makeRaster, readColours } from './paint.js';
import { makeStage } from './stage.js';
import { makeStrip, makeUnits } from './strip.js';
import { Weights, entropyBits, mergeMaps, methodMaps, removeInterference, rescaleMaps, subtractMinimum } from './weights.js';
import { makeWordGrid } from './words.js';
import { hideKeepingFocus, make, setText, showDoing, showMessage } from '../common/dom.js';
import { percent, probability, readable } from '../common/tokens.js';

const PLAY_MILLISECONDS = 900;
const SILENT_ABOUT = 'Each cell is one head of one layer, rows are layers; point at one for its numbers, click to look through it.';

export function mount(part) {
  const { root, props, trigger, followValue, bringIntoView } = part;
  const state = {
    look: null, weights: null, raster: null, units: [], chosen: 0, pointed: null, playing: false, box: null,
    method: 'attention', wanted: null, layer: null, head: 'mean', scaling: 'shared', mode: 'overlay', colours: 'magma', opacity: null, smooth: true, merged: false, sort: 'place',
  };
  let value = null;
  let memo = { key: '', raw: null, shown: null };
  let pictureKey = '';
  let matrixKey = '';
  let gridKey = '';
  let palettes = {};
  let timer = 0;
  let frame = 0;
  let trouble = '';
  /** The choice of maps whose weights did not come: asked for again only when somebody wants it. */
  let failedKey = '';

  // ---- what is seen ----

  const message = make('p', { class: 'cs-message' });
  const heading = make('p', { class: 'cs-state', role: 'status' });
  const stop = make('button', { type: 'button', class: 'cs-button cs-stop', onclick: () => trigger('work_stopped') }, '■ Stop');
  const bar = make('progress', { class: 'cs-progress', max: '1', 'aria-label': 'Progress' });
  const note = make('p', { class: 'cs-error', role: 'alert', hidden: true });
  const retry = make('button', { type: 'button', class: 'cs-button', hidden: true, onclick: () => { forgetFailure(); schedule(); } }, 'Try again');
  const strip = makeStrip({ choose, point: (unit) => change({ pointed: unit }), other: stepLayer });
  const controls = makeControls({ change: changeControl, play: togglePlay, fillScreen });
  const stage = makeStage({ look: (box) => change({ box }) });
  const facts = make('p', { class: 'cs-facts-line' });
  const found = make('p', { class: 'cs-hint cs-found', role: 'status' });
  const matrix = makeMatrix({ pick: (layer, head) => changeControl({ layer, head, method: isTraced(state.method) ? state.method : 'attention' }) });
  const sort = makeSelect('Order', SORTS, (name) => change({ sort: name }));
  const wholeMatrix = make('button', { type: 'button', class: 'cs-button', hidden: true, onclick: fetchAll });
  const words = makeWordGrid({ choose });
  const wordsBox = make('details', { class: 'cs-all-words', open: true, ontoggle: () => schedule() }, make('summary', {}, 'All words'), words.node);
  const keep = make('div', { class: 'cs-keep', role: 'group', 'aria-label': 'Take along' }, make('span', { class: 'cs-hint' }, 'Take along'),
    ...(props.value.files || []).map(([kind, text, about]) => make('button', { type: 'button', class: 'cs-button', title: `Save ${about}`, 'aria-label': `Save ${about} as ${text}`, onclick: () => trigger('file_wanted', { kind, view: currentView() }) }, text)));
  const side = make('section', { class: 'cs-side', 'aria-label': 'Layers and heads' },
    make('div', { class: 'cs-side-head' }, make('h2', {}, 'Layers × heads'), sort.node), matrix.node, wholeMatrix, wordsBox);
  const body = make('div', { class: 'cs-explorer-body' },
    strip.node, controls.node,
    make('div', { class: 'cs-stage-row' },
      make('div', { class: 'cs-stage' }, stage.node, facts, found), side),
    keep);
  root.classList.add('cs-explorer');
  root.append(make('div', { class: 'cs-cards-head' }, heading, stop), bar, note, retry, message, body);

  // ---- moving ----

  function change(changes) {
    Object.assign(state, changes);
    schedule();
  }

  function choose(unit) {
    change({ chosen: unit, pointed: null });
  }

  function stepLayer(key) {
    if (key === ' ') {
      togglePlay();
      return;
    }
    if (!isTraced(state.method)) return;
    const place = (state.layer === null ? 0 : state.layer + 1) + (key === 'ArrowUp' ? 1 : -1);
    if (place < 0 || place > state.look.layers) return;
    changeControl({ layer: place ? place - 1 : null });
  }

  function changeControl(changes) {
    const { look } = state;
    if (changes.method) {
      state.wanted = hasMaps(look, changes.method) ? null : changes.method;
      if (state.wanted) {
        trigger('method_wanted', { method: state.wanted });
        controls.show(state); // stays where it was until the maps are here
        return;
      }
    }
    if ('merged' in changes && changes.merged !== state.merged) {
      const position = state.units[state.chosen].positions[0];
      state.units = makeUnits(look, changes.merged);
      state.chosen = state.units.findIndex((unit) => unit.positions.includes(position));
      state.pointed = null;
    }
    change(changes);
  }

  function togglePlay() {
    state.playing = !state.playing;
    clearInterval(timer);
    if (state.playing) {
      timer = setInterval(() => {
        if (!root.isConnected || state.chosen >= state.units.length - 1) togglePlay();
        else choose(state.chosen + 1);
      }, PLAY_MILLISECONDS);
      if (state.chosen >= state.units.length - 1) choose(0);
    }
    schedule();
  }

  function fillScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (root.requestFullscreen) root.requestFullscreen();
  }

  async function fetchAll() {
    await attempt(Promise.all(Array.from({ length: state.look.layers }, (_, layer) => state.weights.need(layer, 'mean'))));
  }

  /** Wait for weights that are fetched on demand, and say so where they do not come: those of the maps `key`, if any. */
  async function attempt(fetching, key = '') {
    const { weights } = state;
    let told = '';
    try {
      await fetching;
    } catch (error) {
      told = `The attention of this layer did not arrive (${error.message}); try again, or look at the picture again.`;
    }
    if (state.weights !== weights) return;
    trouble = told;
    failedKey = told ? key : '';
    matrixKey = '';
    schedule();
  }

  function forgetFailure() {
    trouble = '';
    failedKey = '';
  }

  // ---- maps ----

  const hasMaps = (look, method) => isTraced(method) || Boolean(look.maps[method]);

  /** The chosen maps of all units, raw and as they are drawn; `null` while their layer is on its way, or did not come. */
  function currentMaps() {
    const { look, weights } = state;
    const key = [look.id, state.method, state.layer, state.head, state.scaling, state.merged].join('|');
    if (failedKey === key) return null; // drawing asks often, and must not ask the server as often
    if (failedKey) forgetFailure();
    if (memo.key === key) return memo;
    let all;
    const above = state.scaling === 'minimum';
    if (!isTraced(state.method)) {
      all = methodMaps(look.maps[state.method], look.patches);
      if (above) all = subtractMinimum(all, look.patches);
    } else if (weights.has(state.layer, state.head, above)) all = weights.maps(state.layer, state.head, above);
    else {
      attempt(weights.need(state.layer, state.head, above), key);
      return null;
    }
    if (state.method === 'attention_clean') all = removeInterference(all, look.patches);
    const raw = mergeMaps(all, state.units.map((unit) => unit.positions), look.patches);
    memo = { key, raw, shown: rescaleMaps(raw, look.patches, state.scaling === 'per_map') };
    return memo;
  }

  const rowOf = (maps, unit) => maps.subarray(unit * state.look.patches, (unit + 1) * state.look.patches);

  /** Of each unit's map, the share that lies in the box. */
  function sharesInBox(raw) {
    return state.units.map((_, unit) => {
      const row = rowOf(raw, unit);
      const total = row.reduce((sum, weight) => sum + weight, 0);
      return total > 0 ? state.box.patches.reduce((sum, patch) => sum + row[patch], 0) / total : 0;
    });
  }

  /** What is looked at, for other parts of the page and for files. */
  function currentView() {
    const unit = state.units[state.chosen];
    const { method, layer, head, scaling, mode, colours, opacity, smooth, merged } = state;
    return { id: state.look.id, text: unit.text, positions: unit.positions, chosen: state.chosen, method, layer, head, scaling, mode, colours, opacity, smooth, merged };
  }

  // ---- drawing ----

  function schedule() {
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); });
  }

  function draw() {
    if (!state.weights) return;
    if (!hasMaps(state.look, state.method)) state.method = 'attention'; // its maps are gone, and these are always there
    const maps = currentMaps();
    showNote();
    controls.show(state);
    if (!maps) return;
    const { look, raster } = state;
    const unit = state.pointed ?? state.chosen;
    const colours = palettes[state.colours];
    const lit = state.box ? sharesInBox(maps.raw) : null;
    strip.show(state.units, unit, lit);
    stage.show({ look, raster, map: rowOf(maps.shown, unit), unit: state.units[unit], colours, mode: state.mode, opacity: state.opacity, smooth: state.smooth, box: state.box?.box ?? null });
    drawFacts(unit, rowOf(maps.raw, unit));
    drawFound(lit);
    drawMatrix(unit, colours);
    drawWords(maps, unit, colours);
    tellOthers();
  }

  function drawFacts(unit, map) {
    const { look, weights } = state;
    const { positions, text, logProb } = state.units[unit];
    const parts = [];
    const shares = isTraced(state.method) ? weights.shares(state.layer, state.head, positions) : null;
    if (shares) {
      parts.push(`on the picture ${percent(shares.picture)}`);
      if (look.prefix) parts.push(`on ${look.prefix === 1 ? 'the prefix token' : 'prefix tokens'} ${percent(shares.prefix)}`);
      if (look.kind === 'self') parts.push(`elsewhere ${percent(Math.max(0, 1 - shares.picture - shares.prefix))}`);
    }
    parts.push(`entropy ${entropyBits(map).toFixed(1)} of ${Math.log2(look.patches).toFixed(1)} bits`);
    facts.replaceChildren(make('b', {}, readable(text)), ` ${percent(probability(logProb))}`, ...parts.map((part) => ` · ${part}`));
  }

  function drawFound(lit) {
    if (!lit) {
      setText(found, 'Click a place on the picture, or draw a box, and the words that looked there light up.');
      return;
    }
    const best = lit.map((share, unit) => [share, state.units[unit].text]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    const area = state.box.patches.length / state.look.patches;
    setText(found, `Looked here most: ${best.map(([share, text]) => `${readable(text)} ${percent(share)}`).join(', ')}; evenly spread would be ${percent(area)}. Click again to end.`);
  }

  function drawMatrix(unit, colours) {
    const { look, weights, raster } = state;
    const { positions } = state.units[unit];
    const importance = importanceOf(positions);
    const loaded = weights.layers.filter(Boolean).length;
    const key = [look.id, positions, state.scaling, state.colours, state.sort, Boolean(importance), loaded, document.body.classList.contains('dark')].join('|');
    const layer = isTraced(state.method) ? state.layer : null;
    sort.field.value = state.sort;
    for (const option of sort.field.options) option.disabled = option.value === 'importance' && !importance;
    wholeMatrix.hidden = loaded > look.layers;
    setText(wholeMatrix, `Fetch all layers (${((look.layers * weights.layerBytes) / 1e6).toFixed(0)} MB)`);
    if (key === matrixKey) {
      matrix.mark(layer, state.head);
      return;
    }
    matrixKey = key;
    matrix.show({ look, weights, raster, positions, colours, shared: state.scaling !== 'per_map', sort: importance || state.sort !== 'importance' ? state.sort : 'place', importance, layer, head: state.head, about: SILENT_ABOUT });
  }

  /** How much each head matters for the word at some positions, where that was measured. */
  function importanceOf(positions) {
    return (state.look.importance || {})[positions.join(',')] || null;
  }

  function drawWords(maps, unit, colours) {
    if (!wordsBox.open) return;
    const key = [memo.key, state.colours, state.opacity, state.smooth].join('|');
    if (key !== gridKey) {
      gridKey = key;
      words.show({ look: state.look, raster: state.raster, units: state.units, maps: maps.shown, colours, opacity: state.opacity, smooth: state.smooth, chosen: unit });
    } else words.mark(unit);
  }

  function tellOthers() {
    root.dispatchEvent(new CustomEvent('cs-view', { bubbles: true, detail: currentView() }));
  }

  // ---- captions that arrive ----

  async function openLook(look) {
    const weights = new Weights(look);
    try {
      await weights.open();
    } catch (error) {
      trouble = `The attention did not arrive (${error.message}); look at the picture again.`;
      showNote();
      return;
    }
    if (value.look?.id !== look.id) return; // a newer caption came meanwhile
    palettes = Object.fromEntries(Object.entries(look.colours).map(([name, bytes]) => [name, readColours(bytes)]));
    if (state.playing) togglePlay();
    forgetFailure();
    Object.assign(state, { look: value.look, weights, raster: makeRaster(look), pointed: null, box: null, wanted: null, opacity: state.opacity ?? look.opacity }, look.view);
    state.units = makeUnits(look, state.merged);
    state.chosen = Math.max(0, state.units.findIndex((unit) => unit.positions.includes(look.view.chosen)));
    if (look.picture.url !== pictureKey) {
      pictureKey = look.picture.url;
      stage.picture.onload = () => schedule();
      stage.picture.src = look.picture.url;
    }
    stage.picture.alt = look.name;
    [memo, matrixKey, gridKey] = [{ key: '' }, '', ''];
    controls.open(look);
    body.hidden = false;
    schedule();
  }

  function showPhase() {
    if (value.phase === 'busy' && root.dataset.phase !== 'busy') bringIntoView();
    root.dataset.phase = value.phase;
    const busy = value.phase === 'busy';
    showDoing(heading, busy ? `${value.doing}…` : value.phase === 'stopped' ? 'Stopped.' : value.look ? value.look.heading : '', busy);
    heading.parentNode.hidden = !heading.textContent;
    bar.hidden = !busy;
    if (value.fraction === null || value.fraction === undefined) bar.removeAttribute('value');
    else bar.value = value.fraction;
    showMessage(message, value.phase, value.message);
    showNote();
    hideKeepingFocus(stop, !busy, heading, message, note);
  }

  function showNote() {
    setText(note, trouble || value.note || '');
    note.hidden = !note.textContent;
    hideKeepingFocus(retry, !failedKey, heading);
  }

  body.hidden = true;
  followValue((next) => {
    value = next;
    root.classList.toggle('is-file', Boolean(value.in_one_file));
    keep.hidden = Boolean(value.in_one_file);
    if (!value.look) forgetFailure();
    showPhase();
    const { look } = value;
    if (!look) {
      state.weights = null;
      state.look = null;
      body.hidden = true;
      return;
    }
    if (look.id !== state.look?.id) {
      openLook(look);
      return;
    }
    // The same caption with more maps than before.
    state.look = look;
    if (state.wanted && hasMaps(look, state.wanted)) changeControl({ method: state.wanted });
    matrixKey = '';
    schedule();
  });
}
