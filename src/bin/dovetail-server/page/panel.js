// The panel beside the conversation: what one answer's rounds were. It follows an answer that is being written until a
// past round is chosen.

import { countDrafted } from "./answer.js";
import { drawChart, format } from "./chart.js";
import { button, eachFrame, element } from "./dom.js";
import { drawTree } from "./tree.js";

// Builds the panel. `marked` is called with the answer and the round that is shown, or null for none, so that its tokens
// can be marked in the text; `colour` with whether tokens are coloured; `compare` is the part that measures the speed.
export function createPanel(place, { marked, colour, isColoured, compare }) {
  const state = { answer: null, round: 0, follows: true, drawn: null };
  const none = element("p", { class: "quiet" });
  const stepper = createStepper((round, follows) => go(round, follows));
  const caption = element("p", { class: "caption" });
  const tree = element("div", { class: "tree-scroll", tabindex: 0, role: "group", "aria-label": "Draft tree" });
  const charts = element("div");
  const trees = element("div", {}, tree, treeLegend());
  const rounds = element("div", {}, stepper.element, trees, caption, charts);
  place.replaceChildren(colourSwitch(colour, isColoured), none, rounds, compare);

  function go(round, follows) {
    const last = state.answer.rounds.length - 1;
    state.round = Math.min(Math.max(round, 0), last);
    state.follows = follows ?? state.round === last;
    draw();
  }

  const draw = eachFrame(() => {
    const all = state.answer?.rounds ?? [];
    none.textContent = state.answer?.content && !all.length
      ? "The server has not reported the rounds of this answer."
      : "An answer's draft trees are drawn here while it is written.";
    none.hidden = all.length > 0;
    rounds.hidden = all.length === 0;
    if (all.length === 0) return marked(state.answer, null);
    if (state.follows) state.round = all.length - 1;
    const round = all[state.round];
    stepper.show(state.round, all.length, state.follows);
    caption.textContent = inWords(round);
    trees.hidden = !all.some((each) => each.nodes.length);
    showTree(round);
    const chart = (title, unit, value) =>
      drawChart({ title, unit, values: all.map(value), selected: state.round, choose: (i) => go(i, false) });
    charts.replaceChildren(
      chart("Tokens a round", "tokens", (each) => each.pieces.length),
      chart("Time a round", "ms", (each) => each.ms));
    marked(state.answer, state.follows ? null : state.round);
  });

  // Draws a tree that is not there already, and scrolls to where it ends.
  function showTree(round) {
    if (state.drawn === round) return;
    state.drawn = tree.offsetParent ? round : null; // in a hidden panel nothing scrolls
    tree.replaceChildren(drawTree(round));
    const end = tree.querySelector(".node.target, .node.accepted:last-of-type")?.getBoundingClientRect();
    const seen = tree.getBoundingClientRect();
    if (end?.right > seen.right) tree.scrollLeft += end.right - seen.right + 12;
    if (end) tree.scrollTop += (end.top + end.bottom - seen.top - seen.bottom) / 2;
  }

  return {
    // Shows an answer, at its last round, or what there is to see of none.
    show(answer) {
      Object.assign(state, { answer, follows: true });
      draw();
    },
    // Shows a round of an answer, because its tokens were pointed at.
    showRound(answer, round) {
      state.answer = answer;
      go(round, false);
    },
    // Draws again what has grown.
    update: draw,
  };
}

function inWords(round) {
  const tokens = round.pieces.length;
  const accepted = round.pieces.filter((piece) => piece.drafted).length;
  const drafted = Math.max(countDrafted(round), accepted);
  const time = round.ms === null ? "" : ` in ${format(round.ms)} ms`;
  const plural = tokens === 1 ? "token" : "tokens";
  if (drafted === 0) return `${tokens} ${plural}${time}, nothing drafted`;
  if (round.nodes.length === 0) return `${tokens} ${plural}${time}, ${accepted} drafted`;
  return `${tokens} ${plural}${time}: ${accepted} of ${drafted} drafted ones accepted`;
}

// Buttons that step through the rounds. `go` gets a round, and whether the newest is followed.
function createStepper(go) {
  let at = 0;
  const back = button("‹", () => go(at - 1), { "aria-label": "Round before" });
  const on = button("›", () => go(at + 1), { "aria-label": "Next round" });
  const first = button("«", () => go(0), { "aria-label": "First round" });
  const last = button("»", () => go(Infinity, true), { "aria-label": "Last round" });
  const label = element("output", {});
  return {
    element: element("div", { class: "stepper", role: "group", "aria-label": "Rounds" }, first, back, label, on, last),
    show(round, count, follows) {
      at = round;
      label.textContent = `Round ${round + 1} of ${count}`;
      first.disabled = back.disabled = round === 0;
      on.disabled = round === count - 1;
      last.disabled = round === count - 1 && follows;
    },
  };
}

function colourSwitch(colour, isColoured) {
  const box = element("input", { type: "checkbox", role: "switch", checked: isColoured });
  box.addEventListener("change", () => colour(box.checked));
  return element("div", { class: "switch" },
    element("label", {}, box, " Colour the tokens of answers"),
    element("p", { class: "legend" },
      element("span", { class: "token drafted sample" }, "drafted and accepted"), " ",
      element("span", { class: "token sample" }, "the model's own")));
}

function treeLegend() {
  const sample = (kind, text) => element("span", {}, element("i", { class: `swatch ${kind}` }), text);
  return element("p", { class: "legend tree-legend" },
    sample("accepted", "accepted"), sample("rejected", "rejected"), sample("target", "the model's own"),
    element("span", { class: "quiet" }, "wide line, full colour: the drafter was sure"));
}
