// The explorer's controls. Each change is told once as {name: setting}; what a method does not have is locked, saying why.

import { make, setText } from '../common/dom.js';

const SCALINGS = [['shared', 'one scale for all words'], ['per_map', 'each map by itself'], ['minimum', 'above what all words share']];
const MODES = [['overlay', 'over the picture'], ['map', 'map alone'], ['weighted', 'picture weighted by it']];
export const SORTS = [['place', 'layer and head'], ['entropy', 'narrowest first'], ['importance', 'what matters most first']];

/** Methods that are drawn from the weights themselves, and so have layers and heads. */
export const isTraced = (method) => method === 'attention' || method === 'attention_clean';

export function makeSelect(label, choices, change) {
  const field = make('select', { class: 'cs-select', 'aria-label': label, onchange: () => change(field.value) },
    ...choices.map(([name, text]) => make('option', { value: name }, text)));
  return { node: make('label', { class: 'cs-control' }, make('span', {}, label), field), field };
}

function makeCheck(label, change) {
  const field = make('input', { type: 'checkbox', onchange: () => change(field.checked) });
  return { node: make('label', { class: 'cs-check' }, field, make('span', {}, label)), field };
}

export function makeControls({ change, play, fillScreen }) {
  const playing = make('button', { type: 'button', class: 'cs-button cs-play', onclick: play }, '▶ Play');
  const full = make('button', { type: 'button', class: 'cs-button', onclick: fillScreen }, 'Full screen');
  const method = makeSelect('Method', [], (name) => change({ method: name }));
  const layer = make('input', { type: 'range', min: '0', step: '1', 'aria-label': 'Layer', oninput: () => change({ layer: Number(layer.value) ? Number(layer.value) - 1 : null }) });
  const layerText = make('output', { class: 'cs-layer-text' });
  const layerNode = make('label', { class: 'cs-control cs-layer' }, make('span', {}, 'Layer ', layerText), layer);
  const head = makeSelect('Head', [], (name) => change({ head: /^\d+$/.test(name) ? Number(name) : name }));
  const scaling = makeSelect('Scale', SCALINGS, (name) => change({ scaling: name }));
  const mode = makeSelect('Show', MODES, (name) => change({ mode: name }));
  const colours = makeSelect('Colours', [], (name) => change({ colours: name }));
  const opacity = make('input', { type: 'range', min: '0', max: '1', step: '0.05', oninput: () => change({ opacity: Number(opacity.value) }) });
  const smooth = makeCheck('Smooth edges', (checked) => change({ smooth: checked }));
  const merged = makeCheck('Whole words', (checked) => change({ merged: checked }));
  const locked = make('p', { class: 'cs-hint cs-locked' });
  const source = make('p', { class: 'cs-hint cs-method-source' });
  const node = make('div', { class: 'cs-controls' },
    make('div', { class: 'cs-control-row' }, playing, method.node, layerNode, head.node, full),
    locked,
    make('details', { class: 'cs-display' }, make('summary', {}, 'Display'),
      make('div', { class: 'cs-control-row' }, mode.node, scaling.node, colours.node,
        make('label', { class: 'cs-control' }, make('span', {}, 'Opacity'), opacity), smooth.node, merged.node),
      source));

  function fill(field, choices) {
    field.replaceChildren(...choices.map(([name, text, off]) => make('option', { value: name, disabled: Boolean(off), title: off || null }, text)));
  }

  return {
    node,
    /** Once a caption: what can be chosen. */
    open(look) {
      fill(method.field, look.methods.map(({ name, title, off }) => [name, off ? `${title} (${off})` : title, off]));
      fill(head.field, [['mean', 'mean'], ['max', 'maximum'], ...Array.from({ length: look.heads }, (_, index) => [String(index), String(index + 1)])]);
      fill(colours.field, Object.keys(look.colours).map((name) => [name, name]));
      layer.max = String(look.layers);
    },
    show(state) {
      const { look } = state;
      const chosen = look.methods.find(({ name }) => name === state.method);
      method.field.value = state.method;
      layer.value = String(state.layer === null ? 0 : state.layer + 1);
      setText(layerText, state.layer === null ? 'mean' : `${state.layer + 1} of ${look.layers}`);
      layer.setAttribute('aria-valuetext', state.layer === null ? 'mean of all layers' : `${state.layer + 1} of ${look.layers}`);
      head.field.value = String(state.head);
      scaling.field.value = state.scaling;
      mode.field.value = state.mode;
      colours.field.value = state.colours;
      opacity.value = String(state.opacity);
      smooth.field.checked = state.smooth;
      merged.field.checked = state.merged;
      const free = isTraced(state.method);
      layer.disabled = !free;
      head.field.disabled = !free;
      opacity.disabled = state.mode !== 'overlay';
      smooth.field.disabled = state.mode === 'map';
      setText(locked, free ? '' : `Layer and head do not apply: ${chosen.note}`);
      locked.hidden = free;
      setText(source, chosen ? `${chosen.title}: ${chosen.source}` : '');
      setText(playing, state.playing ? '❚❚ Pause' : '▶ Play');
      playing.setAttribute('aria-pressed', String(state.playing));
    },
  };
}
