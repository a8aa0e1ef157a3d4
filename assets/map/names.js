// Names of clusters, above the middle of their points.

import { make } from '../common/dom.js';

const NAME_LIFT = 16;
/** The value that a share of all values lies below. */
const quantile = (values, share) => values.sort((a, b) => a - b)[Math.floor(share * (values.length - 1))];

export function makeNames(holder) {
  const layer = make('div', { class: 'cs-map-names', 'aria-hidden': 'true' });
  holder.append(layer);
  let names = [];

  return {
    /** Name the clusters `0 … names.length − 1` that `clusters` gives each point; an empty name is not shown. */
    show(clusters, texts) {
      const members = texts.map(() => []);
      clusters.forEach((cluster, index) => { if (cluster >= 0 && cluster < texts.length) members[cluster].push(index); });
      names = texts.map((text, cluster) => ({ text, members: members[cluster], node: make('span', {}, text) })).filter(({ text, members: own }) => text && own.length);
      layer.replaceChildren(...names.map(({ node }) => node));
    },

    /** Put the names where the points are; names that would cover a larger cluster's are left out. */
    follow([horizontal, vertical], width, height) {
      const boxes = [];
      for (const name of [...names].sort((a, b) => b.members.length - a.members.length)) {
        name.x = quantile(name.members.map((index) => horizontal[index]), 0.5);
        name.y = quantile(name.members.map((index) => vertical[index]), 0.2) - NAME_LIFT;
        const [half, tall] = [name.node.offsetWidth / 2, name.node.offsetHeight / 2];
        const box = [name.x - half, name.y - tall, name.x + half, name.y + tall];
        const fits = box[0] > 0 && box[1] > 0 && box[2] < width && box[3] < height
          && boxes.every(([l, t, r, b]) => box[2] < l || box[0] > r || box[3] < t || box[1] > b);
        name.node.style.visibility = fits ? '' : 'hidden';
        name.node.style.transform = `translate(${box[0]}px, ${box[1]}px)`;
        name.shown = fits;
        if (fits) boxes.push(box);
      }
      return boxes;
    },

    drawn: () => names.filter(({ shown }) => shown).map(({ text, x, y }) => ({ text, x, y })),
  };
}
