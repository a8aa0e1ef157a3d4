// "Can I believe it?": how far the flat map keeps what is near in feature space, beside a random one and PCA.

import { make, setText } from '../common/dom.js';

const MEASURES = [
  ['trustworthiness', 'Trustworthiness', 'of what is near on the map, how much is near in feature space too (random: 0.5, perfect: 1)'],
  ['neighbour_recall', 'Neighbour recall', 'the share of each picture’s ten nearest in feature space that are among its ten nearest on the map'],
  ['purity', 'Label purity', 'the share of a picture’s ten nearest on the map that have its label'],
  ['silhouette', 'Label silhouette', 'how far labels keep apart on the map, from −1 to 1'],
];

export function makeBelief() {
  const verdict = make('p', {});
  const rows = make('tbody', {});
  const table = make('table', { class: 'cs-map-belief-table' });
  const about = make('p', { class: 'cs-hint' });
  const node = make('details', { class: 'cs-map-belief' }, make('summary', {}, 'Can I believe it?'), verdict, table, about);
  const number = (value) => (value === null || value === undefined ? '–' : value.toFixed(3).replace('-', '−'));

  return {
    node,
    /** `quality` is `{columns, measures: {name: [a number or null a column]}, verdict, about}`, or null while it is not known. */
    show(quality) {
      table.hidden = !quality;
      about.hidden = !quality;
      if (!quality) {
        setText(verdict, 'It is measured as soon as the map is drawn.');
        return;
      }
      setText(verdict, quality.verdict);
      const columns = quality.columns;
      table.replaceChildren(
        make('thead', {}, make('tr', {}, make('td', {}), ...columns.map((title) => make('th', { scope: 'col' }, title)))), rows);
      rows.replaceChildren(...MEASURES.filter(([key]) => quality.measures[key]).map(([key, title, words]) => make('tr', {},
        make('th', { scope: 'row', title: words }, title), ...quality.measures[key].map((value, place) => make('td', { class: place === 0 ? 'is-shown' : '' }, number(value))))));
      setText(about, quality.about);
    },
  };
}
