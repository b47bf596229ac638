// The draft tree of a round as SVG: the accepted path, the branches that were rejected, and the token that the model
// itself added. Probabilities are the width of a line and the opacity of a node.

import { rootIsLastToken } from "./answer.js";
import { svg } from "./dom.js";

const COLUMN = 84;
const ROW = 30;
const BOX = { width: 66, height: 22 };
const LONGEST_LABEL = 9;

// The nodes of a round's tree with their places: `{ text, parent, p, x, y, kind }`, parents before children. `kind` is
// "last" for the sequence's last token, "accepted", "rejected", or "target" for the model's own token.
export function layout(round) {
  const nodes = round.nodes.map((node, i) => ({ ...node, kind: round.accepted.includes(i) ? "accepted" : "rejected" }));
  if (rootIsLastToken(round)) nodes[0].kind = "last";
  const own = round.pieces.findLast((piece) => !piece.drafted);
  if (own) nodes.push({ text: own.text, parent: round.accepted.at(-1) ?? null, p: null, kind: "target" });
  const children = nodes.map(() => []);
  const roots = [];
  nodes.forEach((node, i) => (node.parent === null ? roots : children[node.parent]).push(i));
  let rows = 0;
  const place = (i, depth) => {
    const node = nodes[i];
    node.x = depth;
    children[i].forEach((child) => place(child, depth + 1));
    node.y = children[i].length ? mean(children[i].map((child) => nodes[child].y)) : rows++;
  };
  roots.forEach((root) => place(root, 0));
  return nodes;
}

// The picture of a round's tree.
export function drawTree(round) {
  const nodes = layout(round);
  const columns = Math.max(0, ...nodes.map((node) => node.x)) + 1;
  const rows = Math.max(0, ...nodes.map((node) => node.y)) + 1;
  const [width, height] = [columns * COLUMN - (COLUMN - BOX.width) + 4, rows * ROW];
  return svg("svg", { class: "tree", role: "img", width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": inWords(nodes) },
    ...nodes.filter((node) => node.parent !== null).map((node) => edge(nodes[node.parent], node)),
    ...nodes.map(box));
}

// A token with its spaces and line breaks made visible.
function visible(text) {
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ | $/g, "␣") || "∅";
}

function edge(parent, node) {
  const [x1, y1] = [parent.x * COLUMN + BOX.width + 2, middle(parent)];
  const [x2, y2] = [node.x * COLUMN + 2, middle(node)];
  const bend = (x1 + x2) / 2;
  return svg("path", {
    class: `edge ${node.kind}`,
    d: `M${x1} ${y1}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}`,
    "stroke-width": node.p === null ? 1.5 : 1 + 4 * node.p,
  });
}

function box(node) {
  const label = visible(node.text);
  const short = label.length > LONGEST_LABEL ? `${label.slice(0, LONGEST_LABEL - 1)}…` : label;
  return svg("g", { class: `node ${node.kind}`, transform: `translate(${node.x * COLUMN + 2} ${node.y * ROW + 4})` },
    svg("title", {}, describe(node)),
    svg("rect", { ...BOX, rx: 5, "fill-opacity": node.p === null ? 1 : 0.15 + 0.85 * node.p }),
    svg("text", { x: BOX.width / 2, y: 15, "text-anchor": "middle" }, short));
}

const KINDS = { last: "the last token before this round", accepted: "accepted", rejected: "rejected", target: "the model's own token" };

function describe({ text, p, kind }) {
  return `“${visible(text)}”: ${KINDS[kind]}${p === null ? "" : `, ${Math.round(p * 100)} %`}`;
}

function inWords(nodes) {
  const named = (kind) => nodes.filter((node) => node.kind === kind).map((node) => visible(node.text));
  const accepted = named("accepted").join(" ") || "none";
  const own = named("target").join("") || "none";
  return `Draft tree. Accepted: ${accepted}. Rejected: ${named("rejected").length}. The model's own: ${own}.`;
}

function middle(node) {
  return node.y * ROW + 4 + BOX.height / 2;
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
