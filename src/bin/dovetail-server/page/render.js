// Elements of Markdown, with the tokens of an answer coloured. What is text in the source is only ever a text node.

import { button, copy, element } from "./dom.js";
import { inline } from "./inline.js";
import { markdown } from "./markdown.js";

// Shows a source in `place`, and colours `spans`, ranges of it in order (answer.js). Blocks that have not changed since
// the last call stay as they are, so that a growing answer costs little and a selection survives.
export function show(place, source, spans) {
  const blocks = markdown(source);
  const keys = blocks.map((block) => key(block, source, spans));
  const shown = place.shownKeys ?? [];
  let same = 0;
  while (same < keys.length && same < shown.length && keys[same] === shown[same]) same++;
  while (place.childNodes.length > same) place.lastChild.remove();
  for (const block of blocks.slice(same)) place.append(renderBlock(block, spans));
  place.shownKeys = keys;
}

// What the look of a block depends on: its text, its place, and how far its tokens are known.
function key(block, source, spans) {
  const known = Math.min(spans.at(-1)?.to ?? 0, block.to);
  return `${block.from} ${block.kind} ${known} ${source.slice(block.from, block.to)}`;
}

const BLOCKS = {
  paragraph: (block, spans) => element("p", {}, ...text(block.lines, spans)),
  heading: (block, spans) => element(`h${Math.min(block.level + 2, 6)}`, {}, ...text(block.lines, spans)),
  rule: () => element("hr"),
  quote: (block, spans) => element("blockquote", {}, ...all(block.blocks, spans)),
  code: codeBlock,
  list,
  table,
};

function renderBlock(block, spans) {
  return BLOCKS[block.kind](block, spans);
}

function all(blocks, spans) {
  return blocks.map((block) => renderBlock(block, spans));
}

function codeBlock({ language, lines }, spans) {
  const code = element("code", {});
  for (const line of lines) {
    code.append(...tokens(`${line.text}\n`, line.at, spans));
  }
  const press = async () => {
    const said = await copy(code.textContent).then(() => "Copied", () => "Not copied");
    copies.textContent = said;
    setTimeout(() => (copies.textContent = "Copy"), 1500);
  };
  const copies = button("Copy", press, { class: "small", "aria-label": "Copy this code" });
  return element("figure", { class: "code" },
    element("figcaption", {}, element("span", {}, language || "code"), copies),
    element("pre", { tabindex: 0 }, code));
}

function list({ start, isTight, items }, spans) {
  const made = element(start === null ? "ul" : "ol", { start: start === null || start === 1 ? null : start });
  for (const { isTask, task, blocks } of items) {
    const box = isTask ? element("input", { type: "checkbox", disabled: true, checked: task, "aria-label": "task" }) : null;
    const inside = blocks.flatMap((block) =>
      isTight && block.kind === "paragraph" ? text(block.lines, spans) : [renderBlock(block, spans)]);
    made.append(element("li", { class: isTask ? "task" : null }, box, ...inside));
  }
  return made;
}

function table({ align, rows: [head, ...rows] }, spans) {
  const row = (name, cells) =>
    element("tr", {}, ...cells.map((cell, i) => element(name, { class: align[i] }, ...text([cell], spans))));
  return element("div", { class: "table", tabindex: 0 },
    element("table", {}, element("thead", {}, row("th", head)), element("tbody", {}, ...rows.map((cells) => row("td", cells)))));
}

// The nodes of a paragraph's lines.
function text(lines, spans) {
  const starts = [];
  let length = 0;
  for (const line of lines) {
    starts.push(length);
    length += line.text.length + 1;
  }
  const joined = lines.map((line) => line.text).join("\n");
  return nodes(inline(joined), { joined, lines, starts, spans });
}

function nodes(tree, context) {
  return tree.flatMap((node) => {
    switch (node.kind) {
      case "text":
        return leaf(node, context);
      case "code":
        return [element("code", {}, ...leaf(node, context))];
      case "break":
        return [element("br")];
      case "link":
        return [element("a", { href: node.href, target: "_blank", rel: "noopener noreferrer nofollow" },
          ...nodes(node.children, context))];
      default:
        return [element(node.kind, {}, ...nodes(node.children, context))];
    }
  });
}

// A piece of the joined text, which may lie in several lines of the source.
function leaf(node, { joined, lines, starts, spans }) {
  let line = before(starts, node.from, (start) => start);
  if (node.text !== undefined) {
    return tokens(node.text, lines[line].at + node.from - starts[line], spans);
  }
  const found = [];
  for (let from = node.from; from < node.to; line++) {
    const to = Math.min(node.to, starts[line + 1] ?? joined.length);
    found.push(...tokens(joined.slice(from, to), lines[line].at + from - starts[line], spans));
    from = to;
  }
  return found;
}

// Text that begins at a place of the source, cut at the ends of tokens.
function tokens(value, at, spans) {
  const found = [];
  const end = at + value.length;
  let i = Math.max(before(spans, at, (span) => span.from), 0);
  while (at < end) {
    const span = spans[i++];
    if (span && span.to <= at) continue;
    const to = span ? Math.min(at < span.from ? span.from : span.to, end) : end;
    const piece = value.slice(value.length - (end - at), value.length - (end - to));
    if (span && at >= span.from) {
      found.push(element("span", { class: span.drafted ? "token drafted" : "token", "data-round": span.round }, piece));
    } else {
      found.push(document.createTextNode(piece));
      i--;
    }
    at = to;
  }
  return found;
}

// The last element whose place is not behind `at`, by halving; -1 if there is none.
function before(sorted, at, place) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (place(sorted[middle]) <= at) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
