// What the colours of the points say: groups of a kind, or a number from low to high.

const KINDS = ['#3b7dd8', '#e07b39', '#2a9d8f', '#c2477f', '#8a6fd1', '#a98a12', '#5aa845', '#d1495b', '#4aa8c0', '#96694c'];
export const OTHER = '#8d949c';
const RECALLS = [[0.2, '#c2410c', 'fewer than 2 of 10'], [0.4, '#e8913f', '2 or 3 of 10'], [0.6, '#a8a196', '4 or 5 of 10'], [0.8, '#559fc8', '6 or 7 of 10'], [Infinity, '#1d6fb5', '8 of 10 and more']];

/** Groups by how many points they have, each with a colour while there are colours. */
function groupBy(values, nameless) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const ordered = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || String(a).localeCompare(String(b)));
  const named = ordered.filter((value) => value !== '' && value !== null && value !== undefined).slice(0, KINDS.length);
  const colour = new Map(named.map((value, place) => [value, KINDS[place]]));
  const legend = named.map((value) => ({ colour: colour.get(value), text: String(value), count: counts.get(value), holds: (index) => values[index] === value }));
  const rest = values.length - legend.reduce((sum, entry) => sum + entry.count, 0);
  const isRest = (index) => !colour.has(values[index]);
  if (rest) legend.push({ colour: OTHER, text: ordered.length > named.length + 1 ? 'others' : nameless, count: rest, holds: isRest });
  return { colours: values.map((value) => colour.get(value) ?? OTHER), legend };
}

/** Whether a text has a word that begins like this. */
export function hasWord(text, word) {
  return text.toLowerCase().split(/[^\p{L}\p{N}'’-]+/u).some((part) => part.startsWith(word));
}

/** Points with the word in their caption, points without it, and points that have no caption yet. */
function byWord(captions, word) {
  const wanted = word.trim().toLowerCase();
  const kind = captions.map((caption) => (!caption ? 2 : wanted && hasWord(caption, wanted) ? 0 : 1));
  const texts = wanted ? [`with “${word.trim()}”`, 'without it', 'no caption yet'] : ['', 'no word typed yet', 'no caption yet'];
  const shades = [KINDS[1], OTHER, '#c9ced3'];
  const legend = texts
    .map((text, place) => ({ colour: shades[place], text, count: kind.filter((k) => k === place).length, holds: (index) => kind[index] === place }))
    .filter((entry) => entry.count);
  return { colours: kind.map((place) => shades[place]), legend };
}

/** How many of a point's true neighbours are near it on the map. */
function byRecall(recall) {
  if (!recall) return { colours: OTHER, legend: [], waiting: true };
  const level = recall.map((share) => RECALLS.findIndex(([bound]) => share < bound - 1e-9));
  const legend = RECALLS
    .map(([, colour, text], place) => ({ colour, text, count: level.filter((l) => l === place).length, holds: (index) => level[index] === place }))
    .filter((entry) => entry.count);
  return { colours: level.map((place) => RECALLS[place][1]), legend };
}

/** The colourings a map offers: key, title, and what each makes of the points. */
export function colourings(map) {
  const offered = [{ key: 'cluster', title: 'Cluster', paint: () => groupBy(map.clusters.map((c) => (c < 0 ? '' : map.clusterNames[c] || `group ${c + 1}`)), 'in no cluster') }];
  if (map.labels.some(Boolean)) offered.unshift({ key: 'label', title: 'Label', paint: () => groupBy(map.labels, 'no label') });
  if (new Set(map.folders).size > 1) offered.push({ key: 'folder', title: 'Folder', paint: () => groupBy(map.folders.map((f) => f || '(top)'), '') });
  offered.push(
    { key: 'word', title: 'A word of the caption', paint: (word) => byWord(map.captions, word) },
    { key: 'recall', title: 'Whether its place can be trusted', paint: () => byRecall(map.recall) },
  );
  return offered;
}
