// Markdown within a paragraph: code, emphasis, links, line breaks. The result is a tree of data; render.js makes elements
// of it. One pass, with at most DEEPEST marks open and addresses of at most LONGEST characters, so that no text takes
// more than linear time or builds a deep tree.
//
// Nodes: { kind: "text", from, to, text }, { kind: "code", from, to }, { kind: "break" }, and with `children`: "em",
// "strong", "del", and "link", which also has `href`. Places are those of the joined text.

const DEEPEST = 32;
const LONGEST = 2048;
const ENTITY = /&(?:(amp|lt|gt|quot|apos|nbsp|hellip|mdash|ndash)|#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6}));/y;
const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", hellip: "…", mdash: "—", ndash: "–" };
const ADDRESS = /https?:\/\/[^\s<>"'`]{1,2000}/iy;
const PUNCTUATION = /[!-/:-@[-`{-~\u2010-\u2027\u3001-\u3003]/;

// The nodes of a text.
export function inline(text) {
  const state = { text, at: 0, open: [frame("", 0, 0)] };
  while (state.at < text.length) {
    const read = READERS[text[state.at]];
    if (!read?.(state)) plain(state, state.at, state.at + 1);
  }
  return flatten(state.open, []);
}

// The address if a link may lead there, else null: no `javascript:` and the like.
function safeAddress(address) {
  return /^(?:https?:\/\/|mailto:)[^\s]+$/i.test(address) ? address : null;
}

// Each reader starts at `state.at`. It moves on and returns true, or returns false, and the character is plain.
const READERS = {
  "\\": escape,
  "`": code,
  "*": delimiter,
  _: delimiter,
  "~": delimiter,
  "!": bracket,
  "[": bracket,
  "]": closeBracket,
  "<": angle,
  "&": entity,
  h: address,
  H: address,
  "\n": lineBreak,
};

// A mark that was opened, and the nodes since: `count` characters `mark`, which begin at `from`.
function frame(mark, count, from) {
  return { mark, count, from, nodes: [] };
}

function top(state) {
  return state.open[state.open.length - 1];
}

function push(state, node, end) {
  top(state).nodes.push(node);
  state.at = end;
  return true;
}

// Plain characters; one node for those that follow each other.
function plain(state, from, to) {
  const last = top(state).nodes.at(-1);
  if (last?.kind === "text" && last.to === from && last.text === undefined) {
    last.to = to;
    state.at = to;
    return true;
  }
  return push(state, { kind: "text", from, to }, to);
}

function escape(state) {
  const next = state.text[state.at + 1];
  if (next === "\n") return push(state, { kind: "break" }, state.at + 2);
  if (next === undefined || !/[!-/:-@[-`{-~]/.test(next)) return false;
  return push(state, { kind: "text", from: state.at + 1, to: state.at + 2 }, state.at + 2);
}

function lineBreak(state) {
  const last = top(state).nodes.at(-1);
  if (last?.kind === "text" && last.text === undefined) {
    while (last.to > last.from && state.text[last.to - 1] === " ") last.to--;
  }
  return push(state, { kind: "break" }, state.at + 1);
}

// As many backticks close a code span as open it. A search that fails is the last one for that many: there are no others.
function code(state) {
  const { text, at } = state;
  const count = run(text, at);
  let end = text.indexOf("`", at + count);
  while (end >= 0) {
    const found = run(text, end);
    if (found === count) {
      const within = text.slice(at + count, end);
      const pad = /^ .* $/s.test(within) && within.trim() ? 1 : 0;
      return push(state, { kind: "code", from: at + count + pad, to: end - pad }, end + count);
    }
    end = text.indexOf("`", end + found);
  }
  return plain(state, at, at + count);
}

function run(text, at) {
  let end = at;
  while (text[end] === text[at]) end++;
  return end - at;
}

// A run of `*`, `_` or `~~` closes what is open, as far as it can, and opens with what is left.
function delimiter(state) {
  const { text, at } = state;
  const mark = text[at];
  const all = run(text, at);
  if (mark === "~" ? all !== 2 : all > 3) return plain(state, at, at + all);
  const { opens, closes } = flanks(text, at, all, mark);
  let left = all;
  for (let i; closes && left > 0 && (i = lastOpen(state, mark)) > 0; ) {
    left -= close(state, i, left);
  }
  state.at = at + all;
  if (left > 0 && opens && state.open.length < DEEPEST) {
    state.open.push(frame(mark, left, state.at - left));
  } else if (left > 0) {
    plain(state, state.at - left, state.at);
  }
  return true;
}

// Closes a frame with up to `left` characters and returns how many it took.
function close(state, i, left) {
  const { mark, count, from, nodes } = state.open[i];
  const used = Math.min(count, left, 2);
  const kind = mark === "~" ? "del" : used === 2 ? "strong" : "em";
  const children = flatten(state.open.splice(i + 1), nodes);
  state.open.pop();
  if (count > used) state.open.push(frame(mark, count - used, from));
  top(state).nodes.push({ kind, children });
  return used;
}

// Whether a run may open and close: it touches a word on that side.
function flanks(text, at, count, mark) {
  const before = text[at - 1] ?? " ";
  const after = text[at + count] ?? " ";
  const isSpace = (c) => /\s/.test(c);
  const isMark = (c) => PUNCTUATION.test(c);
  const left = !isSpace(after) && (!isMark(after) || isSpace(before) || isMark(before));
  const right = !isSpace(before) && (!isMark(before) || isSpace(after) || isMark(after));
  return mark === "_"
    ? { opens: left && (!right || isMark(before)), closes: right && (!left || isMark(after)) }
    : { opens: left, closes: right };
}

function lastOpen(state, mark) {
  for (let i = state.open.length - 1; i > 0; i--) {
    if (state.open[i].mark === mark) return i;
  }
  return 0;
}

function bracket(state) {
  const count = state.text[state.at] === "!" ? 2 : 1;
  if (count === 2 && state.text[state.at + 1] !== "[") return false;
  if (state.open.length >= DEEPEST) return false;
  state.open.push(frame("[", count, state.at));
  state.at += count;
  return true;
}

// `](address)` makes a link of what is since the bracket. Pictures become links too: the page loads nothing.
function closeBracket(state) {
  const i = lastOpen(state, "[");
  if (i === 0) return false;
  const target = destination(state.text, state.at + 1);
  const href = target && safeAddress(target.address);
  if (!href) {
    flatten(state.open.splice(i, 1), state.open[i - 1].nodes);
    return false;
  }
  const children = flatten(state.open.splice(i + 1), state.open[i].nodes);
  state.open.splice(i, 1);
  if (children.length === 0) children.push({ kind: "text", from: target.from, to: target.to });
  return push(state, { kind: "link", href, children }, target.end);
}

// `(address "title")` at a place: the address, its range, and where all of it ends.
function destination(text, at) {
  const window = text.slice(at, at + LONGEST);
  const found =
    /^\(\s*<([^<>\n]*)>(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/d.exec(window) ??
    /^\(\s*((?:[^\s()\\]|\\.|\((?:[^\s()])*\))*)(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/d.exec(window);
  if (!found) return null;
  const [from, to] = found.indices[1].map((index) => at + index);
  return { address: found[1].replace(/\\([!-/:-@[-`{-~])/g, "$1"), from, to, end: at + found[0].length };
}

// `<https://…>`; all else in angle brackets is text.
function angle(state) {
  const close = state.text.slice(state.at, state.at + LONGEST).indexOf(">");
  const href = close > 0 && safeAddress(state.text.slice(state.at + 1, state.at + close));
  if (!href) return false;
  const children = [{ kind: "text", from: state.at + 1, to: state.at + close }];
  return push(state, { kind: "link", href, children }, state.at + close + 1);
}

function entity(state) {
  ENTITY.lastIndex = state.at;
  const found = ENTITY.exec(state.text);
  if (!found) return false;
  const [all, name, decimal, hexadecimal] = found;
  const number = decimal ? parseInt(decimal, 10) : parseInt(hexadecimal, 16);
  const isCharacter = name || (number > 0 && number <= 0x10ffff && !(number >= 0xd800 && number < 0xe000));
  const text = name ? NAMED[name] : isCharacter ? String.fromCodePoint(number) : "\ufffd";
  return push(state, { kind: "text", from: state.at, to: state.at + all.length, text }, state.at + all.length);
}

// An address without marks around it. Punctuation behind it belongs to the sentence.
function address(state) {
  if (/\w/.test(state.text[state.at - 1] ?? " ")) return false;
  ADDRESS.lastIndex = state.at;
  const found = ADDRESS.exec(state.text)?.[0].replace(/[.,;:!?*_~\]]+$/, "");
  const href = found && (found.includes("(") ? found : found.replace(/\)+[.,;:!?*_~\]]*$/, ""));
  if (!href || !safeAddress(href) || href.length < 9) return false;
  const end = state.at + href.length;
  return push(state, { kind: "link", href, children: [{ kind: "text", from: state.at, to: end }] }, end);
}

// Adds the nodes of frames that were never closed, and their marks as text.
function flatten(frames, nodes) {
  for (const { mark, count, from, nodes: own } of frames) {
    if (mark) nodes.push({ kind: "text", from, to: from + count });
    for (const node of own) nodes.push(node);
  }
  return nodes;
}
