// A running chart: one bar a round, the last ones of an answer, and their mean as a line.

import { element, svg } from "./dom.js";

const MOST_BARS = 100;
const WIDTH = 330;
const HEIGHT = 64;

// A chart of values, null where a round has none. A bar that is clicked calls `choose` with its index.
export function drawChart({ title, unit, values, selected, choose }) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return element("figure", { hidden: true });
  const first = Math.max(0, values.length - MOST_BARS);
  const shown = values.slice(first);
  const most = Math.max(...shown, Number.MIN_VALUE);
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  const step = WIDTH / Math.max(shown.length, 24);
  const bars = shown.map((value, i) => {
    const height = Math.max(((value ?? 0) / most) * HEIGHT, 1);
    const bar = svg("rect", {
      class: first + i === selected ? "bar selected" : "bar",
      x: i * step, y: HEIGHT - height, width: Math.max(step - 1, 1), height,
    }, svg("title", {}, `Round ${first + i + 1}: ${format(value)} ${unit}`));
    bar.addEventListener("click", () => choose(first + i));
    return bar;
  });
  const y = HEIGHT * (1 - Math.min(mean / most, 1));
  const words = `${title}: mean ${format(mean)} ${unit}`;
  return element("figure", { class: "chart" },
    element("figcaption", {},
      element("span", {}, title),
      element("span", { class: "quiet" }, `mean ${format(mean)}, most ${format(most)} ${unit}`)),
    svg("svg", { role: "img", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-label": words },
      ...bars, svg("line", { class: "mean", x1: 0, x2: WIDTH, y1: y, y2: y })));
}

// A number with as many digits as one reads.
export function format(value) {
  if (value === null) return "unknown";
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
}
