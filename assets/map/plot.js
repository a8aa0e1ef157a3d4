// The points themselves, drawn by Plotly, which also pans, zooms and lassoes. Everything that holds text or a
// picture lies above it and is ours: Plotly reads pseudo-markup in hover texts, so it is given none.

import { make } from '../common/dom.js';

/** The diameter of a point: smaller where there are many. */
export const pointPixels = (count) => (count > 2000 ? 5 : count > 500 ? 7 : 9);
const REACH_PIXELS = 12;
const GLIDE_MILLISECONDS = 900;
const MANY_POINTS = 1000;

let plotlyComing = null;

/** Plotly, fetched from this server when the first map is drawn; undefined where it does not come. */
export function loadPlotly(address) {
  plotlyComing ??= window.Plotly ? Promise.resolve(window.Plotly) : new Promise((resolve, reject) => {
    const script = make('script', { src: address, onload: () => (window.Plotly ? resolve(window.Plotly) : reject()), onerror: reject });
    document.head.append(script);
  }).catch(() => { plotlyComing = null; });
  return plotlyComing;
}

/** The graphics processor draws thousands of points smoothly; where there is none, or few points, the page does. */
function traceType(count) {
  const context = count > MANY_POINTS && document.createElement('canvas').getContext('webgl');
  if (!context) return 'scatter';
  context.getExtension('WEBGL_lose_context')?.loseContext();
  return 'scattergl';
}

const wantsStillness = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
const ease = (t) => 1 - (1 - t) ** 3;

/**
 * A plot in `holder`. Tells `onView` whenever points move on the screen (`resting` where they stay for now) and
 * `onLasso` which points a lasso or box encloses.
 */
export function makePlot(Plotly, holder, { onView, onLasso }) {
  let xs = [];
  let ys = [];
  let dimensions = [0, 0];
  let gliding = 0;
  let started = false;
  let span = { x: [0, 1], y: [0, 1] };

  const size = () => [holder.clientWidth, holder.clientHeight];
  const ranges = () => (started ? { x: [...holder._fullLayout.xaxis.range], y: [...holder._fullLayout.yaxis.range] } : span);

  /** Ranges that hold the given points with one scale for both axes, so that distances are what they seem. */
  function fitting(horizontal, vertical, margin = 0.07) {
    const [width, height] = size();
    const bounds = [horizontal, vertical].map((values) => {
      let low = Infinity;
      let high = -Infinity;
      for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
      return low <= high ? [low, high] : [-1, 1];
    });
    const [[left, right], [bottom, top]] = bounds;
    const scale = Math.max((right - left) / width, (top - bottom) / height, 1e-6 / width) * (1 + 2 * margin);
    const [cx, cy] = [(left + right) / 2, (bottom + top) / 2];
    return { x: [cx - scale * width / 2, cx + scale * width / 2], y: [cy - scale * height / 2, cy + scale * height / 2] };
  }

  function layout(dragmode) {
    const axis = { visible: false, fixedrange: false, autorange: false };
    const { x, y } = ranges();
    return {
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
      showlegend: false, hovermode: false, dragmode, uirevision: 'kept', selections: [],
      newselection: { line: { color: '#0f766e', width: 2, dash: 'solid' } },
      xaxis: { ...axis, range: x }, yaxis: { ...axis, range: y },
    };
  }

  let dragmode = 'pan';
  let marker = {};

  const trace = () => ({
    type: traceType(xs.length), mode: 'markers', x: xs, y: ys, hoverinfo: 'none',
    marker: { size: pointPixels(xs.length), line: { width: 0 }, ...marker },
    selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.25 } },
  });

  async function start() {
    await Plotly.newPlot(holder, [trace()], layout(dragmode), { displayModeBar: false, scrollZoom: true, doubleClick: false, responsive: false });
    started = true;
    holder.on('plotly_relayouting', () => onView(false));
    holder.on('plotly_relayout', () => onView(true));
    holder.on('plotly_selected', (event) => {
      if (event?.points?.length) onLasso(event.points.map((point) => point.pointIndex));
    });
  }

  const redraw = () => Plotly.react(holder, [trace()], layout(dragmode));

  const plot = {
    /** Show points in their colours; `keepView` leaves pan and zoom as they are. */
    async show(horizontal, vertical, colours, keepView = false) {
      gliding += 1;
      xs = [...horizontal];
      ys = [...vertical];
      marker = { color: colours, opacity: 0.92 };
      dimensions = size();
      if (!keepView || !started) span = fitting(xs, ys);
      if (!started) await start();
      else {
        if (!keepView) setRanges(span);
        await redraw();
      }
      onView(true);
    },

    /** Paint points anew; points outside `lit` fade, where there is such a set. */
    async paint(colours, lit = null) {
      marker = { color: colours, opacity: lit ? xs.map((_, place) => (lit.has(place) ? 1 : 0.16)) : 0.92 };
      if (started) await Plotly.restyle(holder, { 'marker.color': [marker.color], 'marker.opacity': [marker.opacity], selectedpoints: null });
    },

    /** Let all points glide to new places, so that one can follow them. */
    async glide(horizontal, vertical) {
      const [fromX, fromY] = [xs, ys];
      const before = ranges();
      const after = fitting(horizontal, vertical);
      const run = ++gliding;
      const begun = performance.now();
      const mix = (a, b, t) => a.map((value, place) => value + (b[place] - value) * t);
      for (let t = wantsStillness() || document.hidden ? 1 : 0; run === gliding; ) {
        const eased = ease(t);
        xs = mix(fromX, horizontal, eased);
        ys = mix(fromY, vertical, eased);
        setRanges({ x: mix(before.x, after.x, eased), y: mix(before.y, after.y, eased) });
        await redraw();
        onView(t === 1);
        if (t === 1) return;
        await new Promise(requestAnimationFrame);
        t = Math.min(1, (performance.now() - begun) / GLIDE_MILLISECONDS);
      }
    },

    /** Where a point is, in pixels of the plot. */
    place(index) {
      const [width, height] = size();
      const { x, y } = ranges();
      return [(xs[index] - x[0]) / (x[1] - x[0]) * width, (y[1] - ys[index]) / (y[1] - y[0]) * height];
    },

    /** Where all points are, in pixels: two arrays. */
    places() {
      const [width, height] = size();
      const { x, y } = ranges();
      const [kx, ky] = [width / (x[1] - x[0]), height / (y[1] - y[0])];
      return [Float64Array.from(xs, (value) => (value - x[0]) * kx), Float64Array.from(ys, (value) => (y[1] - value) * ky)];
    },

    /** The point nearest to a place on the screen, or -1 where none is near. */
    pointAt(px, py) {
      const [horizontal, vertical] = plot.places();
      let best = -1;
      let least = REACH_PIXELS ** 2;
      for (let index = 0; index < horizontal.length; index += 1) {
        const away = (horizontal[index] - px) ** 2 + (vertical[index] - py) ** 2;
        if (away < least) { least = away; best = index; }
      }
      return best;
    },

    /** Nearer by a factor, around a point, or around the middle for -1. */
    zoomBy(factor, index = -1) {
      const { x, y } = ranges();
      const [cx, cy] = index >= 0 ? [xs[index], ys[index]] : [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2];
      const around = ([low, high], middle) => [middle + (low - middle) / factor, middle + (high - middle) / factor];
      return plot.go({ x: around(x, cx), y: around(y, cy) });
    },

    /** Bring a point into view where it is outside. */
    reveal(index) {
      const { x, y } = ranges();
      const [px, py] = [xs[index], ys[index]];
      if (px > x[0] && px < x[1] && py > y[0] && py < y[1]) return Promise.resolve();
      const moved = ([low, high], middle) => [middle - (high - low) / 2, middle + (high - low) / 2];
      return plot.go({ x: moved(x, px), y: moved(y, py) });
    },

    fit: () => plot.go(fitting(xs, ys)),

    async go({ x, y }) {
      span = { x, y };
      await Plotly.relayout(holder, { 'xaxis.range': x, 'yaxis.range': y });
    },

    async setMode(mode) {
      dragmode = mode;
      if (started) await Plotly.relayout(holder, { dragmode: mode, selections: [] });
    },

    async clearLasso() {
      if (!started) return;
      await Plotly.relayout(holder, { selections: [] });
      await Plotly.restyle(holder, { selectedpoints: null });
    },

    /** The holder has another size: keep the scale and the middle. */
    async resize() {
      const [width, height] = size();
      if (!started || !width || !height || (width === dimensions[0] && height === dimensions[1])) return;
      const { x, y } = ranges();
      const unit = dimensions[0] ? (x[1] - x[0]) / dimensions[0] : null;
      const whole = dimensions[0] === 0;
      dimensions = [width, height];
      const spread = ([low, high], pixels) => { const middle = (low + high) / 2; return [middle - unit * pixels / 2, middle + unit * pixels / 2]; };
      const next = whole ? fitting(xs, ys) : { x: spread(x, width), y: spread(y, height) };
      await Plotly.relayout(holder, { width, height, 'xaxis.range': next.x, 'yaxis.range': next.y });
    },
  };

  function setRanges({ x, y }) {
    span = { x, y };
    holder.layout.xaxis.range = [...x];
    holder.layout.yaxis.range = [...y];
    holder._fullLayout.xaxis.range = [...x];
    holder._fullLayout.yaxis.range = [...y];
  }

  return plot;
}
