// An answer, put together from the chunks of a stream, with the rounds in which its tokens were drafted and verified.

const MOST_ROUNDS = 8192;
const MOST_NODES = 64;
const LONGEST_MARKER = 256;

// An answer without a word.
export function newAnswer() {
  return { role: "assistant", content: "", reasoning: "", rounds: [], timings: null, finish: null };
}

// Adds a chunk to an answer. Fields that are missing or malformed are passed over: other servers send less.
export function take(answer, chunk) {
  const choices = Array.isArray(chunk.choices) ? chunk.choices : [];
  const choice = choices.find((each) => (each.index ?? 0) === 0);
  answer.content += text(choice?.delta?.content);
  answer.reasoning += text(choice?.delta?.reasoning_content);
  answer.finish = choice?.finish_reason ?? answer.finish;
  answer.timings = readTimings(chunk.timings) ?? answer.timings;
  answer.tokens = number(chunk.usage?.completion_tokens) ?? answer.tokens;
  const round = readRound(chunk.dovetail);
  if (round && answer.rounds.length < MOST_ROUNDS) answer.rounds.push(round);
}

// A round `{ n, ms, nodes: [{ text, parent, p }], accepted, pieces: [{ text, drafted }] }`, or null if there is none.
export function readRound(from) {
  if (!from || !Array.isArray(from.pieces)) return null;
  const pieces = from.pieces
    .filter((piece) => typeof piece?.text === "string")
    .map(({ text, drafted }) => ({ text, drafted: drafted === true }));
  const given = from.round ?? from;
  const nodes = readNodes(given.nodes);
  const accepted = (Array.isArray(given.accepted) ? given.accepted : []).filter((node) => Number.isInteger(node) && node in nodes);
  return { n: number(given.n) ?? null, ms: number(given.ms) ?? null, nodes, accepted, pieces };
}

// The numbers of llama-server's `timings` that the page shows.
export function readTimings(from) {
  if (!from || typeof from !== "object") return null;
  const names = ["predicted_n", "predicted_ms", "predicted_per_second", "prompt_n", "prompt_ms", "draft_n", "draft_n_accepted"];
  return Object.fromEntries(names.map((name) => [name, number(from[name]) ?? null]));
}

// Whether the first node is the sequence's last token, which was not drafted: it is accepted, and no piece is it.
export function rootIsLastToken(round) {
  return round.nodes.length > 0 && round.accepted.length > round.pieces.filter((piece) => piece.drafted).length;
}

// How many tokens of a round were drafted.
export function countDrafted(round) {
  return round.nodes.length - (rootIsLastToken(round) ? 1 : 0);
}

// Which ranges of `answer.content` were drafted, in order: `{ from, to, drafted, round }`, where `round` is an index.
// The pieces join to reasoning, markers and content, and may run ahead of the content, or lag behind it.
export function spans(answer) {
  const pieces = answer.rounds.flatMap(({ pieces }, round) => pieces.map((piece) => ({ ...piece, round })));
  const all = pieces.map((piece) => piece.text).join("");
  const start = contentStart(all, answer);
  if (start === null) return [];
  let at = -start;
  const found = [];
  for (const { text, drafted, round } of pieces) {
    const from = Math.max(at, 0);
    at += text.length;
    const to = Math.min(at, answer.content.length);
    if (from < to) found.push({ from, to, drafted, round });
  }
  return found;
}

// Where the content begins within the joined pieces, or null if they are of another text. Before it stand short markers,
// and the reasoning if the server counts it among the pieces.
function contentStart(all, { content, reasoning }) {
  const thought = reasoning.trim();
  const before = all.indexOf(thought);
  const first = before < 0 ? 0 : before + thought.length;
  for (let at = first; at < Math.min(all.length, first + LONGEST_MARKER); at++) {
    const both = Math.min(content.length, all.length - at);
    if (both > 0 && all.startsWith(content.slice(0, both), at)) return at;
  }
  return null;
}

function readNodes(given) {
  const nodes = [];
  for (const node of Array.isArray(given) ? given.slice(0, MOST_NODES) : []) {
    const isChild = Number.isInteger(node?.parent) && node.parent >= 0 && node.parent < nodes.length;
    const p = number(node?.p);
    nodes.push({
      text: text(node?.text),
      parent: isChild ? node.parent : null,
      p: p === undefined ? null : Math.min(Math.max(p, 0), 1),
    });
  }
  return nodes;
}

function text(value) {
  return typeof value === "string" ? value : "";
}

function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
