// Can a word's map be believed? What the word's log-probability does while patches go and come in the map's order,
// beside random orders and a blob in the centre; ablation, an untrained net, heads, and all methods in one table.

import { hideKeepingFocus, make, setText } from '../common/dom.js';
import { makePanel } from '../common/panel.js';
import { readable } from '../common/tokens.js';

const SVG = 'http://www.w3.org/2000/svg';
const [CHART_WIDTH, CHART_HEIGHT] = [300, 170];
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 8, 10, 28];

export function mount(part) {
  const { element, root, trigger, followValue } = part;
  const verdict = make('p', { class: 'cs-verdict', role: 'status' });
  const charts = make('div', { class: 'cs-charts' });
  const legend = make('p', { class: 'cs-chart-legend', 'aria-hidden': 'true' }, 'log-probability of the word, in nats:',
    make('span', { class: 'is-map' }, 'this map'), make('span', { class: 'is-random' }, 'random orders'), make('span', { class: 'is-centre' }, 'centre blob'));
  const tableFrame = make('div', { class: 'cs-belief-frame' });
  const more = make('div', { class: 'cs-belief-more' });
  const papers = make('p', { class: 'cs-hint' },
    'Attention is not explanation (Jain and Wallace, 2019), and not not explanation either (Wiegreffe and Pinter, 2019): a map says what was weighed, these measurements what it changed, and on this picture and this word alone.');
  const panel = makePanel(part, 'Can I believe it?', verdict, charts, legend, tableFrame, more, papers);
  let value = null;
  let view = null;

  const draw = (tag, attributes, ...children) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, setting] of Object.entries(attributes)) node.setAttribute(name, String(setting));
    node.append(...children);
    return node;
  };

  /** A number with as many decimals as the widest of its kind needs: three where all are small. */
  const decimals = (span) => (span < 0.2 ? 3 : span < 2 ? 2 : 1);
  const written = (amount, places) => (amount === null || amount === undefined ? '–' : amount.toFixed(places).replace('-', '−').replace(/^−(0\.?0*)$/, '$1'));

  /** Curves of log-probability, in nats, over the share of patches that are hidden or shown. */
  function makeChart(title, about, curves) {
    const all = [...curves.map, ...curves.low, ...curves.high, ...curves.centre];
    const [least, most] = [Math.min(...all), Math.max(...all)];
    const span = most - least || 1;
    const x = (index) => LEFT + (index / (curves.map.length - 1)) * (CHART_WIDTH - LEFT - RIGHT);
    const y = (logProb) => TOP + ((most - logProb) / span) * (CHART_HEIGHT - TOP - BOTTOM);
    const line = (points) => points.map((logProb, index) => `${index ? 'L' : 'M'}${x(index).toFixed(1)} ${y(logProb).toFixed(1)}`).join('');
    const backwards = curves.low.map((logProb, index) => `L${x(index).toFixed(1)} ${y(logProb).toFixed(1)}`).reverse().join('');
    const text = (left, top, words, anchor = 'end') => draw('text', { x: left, y: top, 'text-anchor': anchor }, words);
    const picture = draw('svg', { viewBox: `0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`, role: 'img', 'aria-label': `${title}: ${about}`, class: 'cs-chart' },
      draw('line', { class: 'cs-axis', x1: LEFT, y1: CHART_HEIGHT - BOTTOM, x2: CHART_WIDTH - RIGHT, y2: CHART_HEIGHT - BOTTOM }),
      text(LEFT - 5, y(most) + 4, written(most, decimals(span))), text(LEFT - 5, y(least) + 4, written(least, decimals(span))),
      text(LEFT, CHART_HEIGHT - 9, '0 %', 'start'), text(CHART_WIDTH - RIGHT, CHART_HEIGHT - 9, '100 % of the patches'),
      draw('path', { class: 'cs-band', d: `${line(curves.high)}${backwards}Z` }),
      draw('path', { class: 'cs-curve is-random', d: line(curves.random) }),
      draw('path', { class: 'cs-curve is-centre', d: line(curves.centre) }),
      draw('path', { class: 'cs-curve is-map', d: line(curves.map) }));
    return make('figure', {}, make('figcaption', {}, make('b', {}, title), make('span', { class: 'cs-hint' }, about)), picture);
  }

  function makeTable(rows) {
    const places = Math.max(2, decimals(Math.max(...rows.flatMap((row) => [Math.abs(row.deletion), Math.abs(row.insertion)]))));
    const head = ['order of patches', 'deletion area', 'insertion area', 'agrees with ablation'];
    return make('table', { class: 'cs-belief-table' },
      make('thead', {}, make('tr', {}, ...head.map((text) => make('th', { scope: 'col' }, text)))),
      make('tbody', {}, ...rows.map((row) => make('tr', { class: row.chosen ? 'is-chosen' : '' },
        make('th', { scope: 'row' }, row.title),
        ...[written(row.deletion, places), written(row.insertion, places), written(row.correlation, 2)].map((text) => make('td', { class: 'cs-number' }, text))))));
  }

  /** A small map as shades of the accent colour, with a line below. */
  function makeSmallMap(title, [rows, columns], cells, about) {
    const canvas = make('canvas', { width: columns, height: rows, role: 'img', 'aria-label': title });
    const image = new ImageData(columns, rows);
    const most = Math.max(...cells, 1e-12);
    cells.forEach((cell, index) => image.data.set([45, 150, 140, Math.round((Math.max(0, cell) / most) * 255)], index * 4));
    canvas.getContext('2d').putImageData(image, 0, 0);
    return make('figure', { class: 'cs-small-map' }, make('figcaption', {}, make('b', {}, title)), canvas, make('p', { class: 'cs-hint' }, about));
  }

  function drawResult({ result }) {
    setText(verdict, result?.sentence || '');
    verdict.hidden = !verdict.textContent;
    verdict.classList.toggle('is-good', Boolean(result?.beats));
    const curves = result?.curves;
    charts.replaceChildren(...(curves ? [
      makeChart('Deletion', 'hottest patches hidden first; good maps fall early', curves.deletion),
      makeChart('Insertion', 'hottest patches shown first; good maps rise early', curves.insertion)] : []));
    legend.hidden = !curves;
    tableFrame.replaceChildren(...(result?.rows?.length ? [makeTable(result.rows)] : []));
    more.replaceChildren(...(result?.maps || []).map(({ title, grid, cells, about }) => makeSmallMap(title, grid, cells, about)),
      ...(result?.notes || []).map((note) => make('p', { class: 'cs-hint' }, note)));
    papers.hidden = !result;
  }

  /** Which word would be measured, and how long that takes; said before it is begun. */
  function drawHead() {
    if (!value) return;
    const word = view ? `“${readable(view.text)}”` : 'the chosen word';
    const cost = value.phase === 'busy' || !value.ready || !value.estimate ? '' : ` For ${word}: ${value.estimate}.`;
    panel.show({ ...value, about: value.about + cost, action: value.phase === 'done' ? '' : value.action });
    hideKeepingFocus(again, value.phase !== 'done', panel.halt, panel.heading);
  }

  const again = make('button', { type: 'button', class: 'cs-button', hidden: true, onclick: () => trigger('panel_wanted', panel.detail()) }, 'Measure the word in view');
  root.append(again);
  panel.detail = () => ({ view });
  element.closest('#cs-attention').addEventListener('cs-view', (event) => {
    const changed = view?.text !== event.detail.text;
    view = event.detail;
    if (changed) drawHead();
  });
  followValue((next) => {
    value = next;
    drawHead();
    drawResult(value);
  });
}
