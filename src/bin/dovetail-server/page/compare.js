// Plain against speculative decoding: the same request with drafting off and on, both speeds, and whether the texts are
// equal, as they must be.

import { complete } from "./api.js";
import { newAnswer, take } from "./answer.js";
import { format } from "./chart.js";
import { button, element } from "./dom.js";

const USUAL_MAX_TOKENS = 128;

// The part of the panel that compares. `request` gives the body of the conversation's last question, or null if there is
// none; `run` is given a function of an AbortSignal and runs it unless something else is running.
export function createCompare({ request, run }) {
  const said = element("p", { role: "status" });
  const table = element("div");
  const press = () => {
    const body = request();
    table.replaceChildren();
    if (!body) {
      said.textContent = "Ask something first: the last question is answered twice.";
      return;
    }
    run(async (signal) => {
      said.textContent = "";
      const runs = await runTwice(body, signal, (text) => (said.textContent = text));
      table.replaceChildren(resultTable(runs));
      said.textContent = verdict(runs);
    }, (error) => (said.textContent = error));
  };
  return element("section", { class: "compare" },
    element("h3", {}, "Plain against speculative"),
    element("p", { class: "quiet" },
      "Answers the last question twice with the same seed, without drafting and with it. The conversation stays as it is."),
    button("Compare", press, { id: "compare" }), said, table);
}

// Both answers, with their tokens a second.
async function runTwice(body, signal, progress) {
  const seed = body.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
  const runs = [];
  for (const [name, drafting] of [["plain", "off"], ["speculative", "on"]]) {
    const asked = { max_tokens: USUAL_MAX_TOKENS, ...body, seed, dovetail: { rounds: true, drafting } };
    const answer = newAnswer();
    const clock = { first: null, last: null, chunks: 0 };
    for await (const chunk of complete(asked, signal)) {
      const before = answer.content.length + answer.reasoning.length;
      take(answer, chunk);
      if (answer.content.length + answer.reasoning.length > before) {
        clock.last = performance.now();
        clock.first ??= clock.last;
        clock.chunks++;
      }
      progress(`${name}: ${answer.content.length + answer.reasoning.length} characters …`);
    }
    runs.push({ name, answer, ...speed(answer, clock) });
  }
  return runs;
}

// Where two texts begin to differ, or null if they are equal.
export function difference(a, b) {
  if (a === b) return null;
  let at = 0;
  while (a[at] === b[at]) at++;
  return at;
}

// The server's own measure, or tokens by the clock from the first to the last.
function speed(answer, { first, last, chunks }) {
  const tokens = answer.timings?.predicted_n ?? answer.tokens ?? chunks;
  const measured = last > first && tokens > 1 ? ((tokens - 1) * 1000) / (last - first) : null;
  return { tokens, perSecond: answer.timings?.predicted_per_second ?? measured };
}

function resultTable(runs) {
  const row = ({ name, answer, tokens, perSecond }) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, `${tokens}`),
      element("td", {}, format(perSecond)), element("td", {}, acceptance(answer)));
  const head = ["", "tokens", "tokens/s", "accepted"].map((name) => element("th", { scope: "col" }, name));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...runs.map(row)));
}

function acceptance({ timings }) {
  return timings?.draft_n ? `${Math.round((100 * timings.draft_n_accepted) / timings.draft_n)} %` : "–";
}

function verdict([plain, speculative]) {
  const drafted = speculative.answer.timings?.draft_n || speculative.answer.rounds.some((round) => round.nodes.length > 1);
  if (!drafted) return "The server drafted nothing, so both runs were plain. It has no drafter, or is not Dovetail.";
  const whole = ({ answer }) => answer.reasoning + answer.content;
  const at = difference(whole(plain), whole(speculative));
  const ratio = plain.perSecond && speculative.perSecond ? `${(speculative.perSecond / plain.perSecond).toFixed(2)} × as fast. ` : "";
  if (at === null) return `${ratio}The texts are equal (${whole(plain).length} characters).`;
  return `${ratio}The texts differ from character ${at + 1} on.`;
}
