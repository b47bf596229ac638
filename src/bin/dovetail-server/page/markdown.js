// Markdown as models write it: headings, lists, quotes, tables, code, rules, paragraphs. No HTML, no setext headings and no
// reference links. Every piece of text keeps its place in the source, so that render.js can colour what was drafted.
//
// A line is { text, at }: its text without the marks of the blocks around it, and where that begins in the source.
// Blocks: paragraph { lines }, heading { level, lines }, code { language, lines }, quote { blocks }, rule,
// list { start, isTight, items: [{ task, blocks }] }, table { align, rows: [[line]] } with the head as the first row.

const DEEPEST = 12;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}>[ ]?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( {1,4}(?! )| (?= )|$)/;
const TASK = /^\[([ xX])\] /;

// The blocks of a source, each with the range `from..to` of the source that it was made of.
export function markdown(source) {
  let at = 0;
  const lines = source.split("\n").map((text) => {
    const line = { text, at };
    at += text.length + 1;
    return line;
  });
  return blocks(lines, 0);
}

function blocks(lines, depth) {
  const found = [];
  let i = 0;
  while (i < lines.length) {
    if (isBlank(lines[i])) {
      i++;
      continue;
    }
    const readers = depth < DEEPEST ? READERS : [paragraph];
    for (const read of readers) {
      const block = read(lines, i, depth);
      if (block) {
        const last = lines[block.next - 1];
        found.push({ ...block, from: lines[i].at, to: last.at + last.text.length });
        i = block.next;
        break;
      }
    }
  }
  return found;
}

// Each reader returns a block and `next`, the line behind it, or null. Paragraphs are the last resort.
const READERS = [fence, heading, rule, quote, list, table, indented, paragraph];

function fence(lines, i) {
  const open = FENCE.exec(lines[i].text);
  if (!open) return null;
  const indent = indentOf(lines[i].text);
  const isEnd = ({ text }) => {
    const end = text.trim();
    return end.length >= open[1].length && end === open[1][0].repeat(end.length) && indentOf(text) < 4;
  };
  let end = i + 1;
  while (end < lines.length && !isEnd(lines[end])) end++;
  const inside = lines.slice(i + 1, end).map((line) => strip(line, indent));
  const language = open[2].trim().split(/\s/)[0].slice(0, 40);
  return { kind: "code", language, lines: inside, next: Math.min(end + 1, lines.length) };
}

function heading(lines, i) {
  const open = HEADING.exec(lines[i].text);
  if (!open) return null;
  const line = cut(lines[i], open[0].length);
  const text = line.text.trimEnd().replace(/(^|[ \t])#+$/, "").trimEnd();
  return { kind: "heading", level: open[1].length, lines: [{ ...line, text }], next: i + 1 };
}

function rule(lines, i) {
  return RULE.test(lines[i].text) ? { kind: "rule", next: i + 1 } : null;
}

function quote(lines, i, depth) {
  if (!QUOTE.test(lines[i].text)) return null;
  const inside = [];
  let next = i;
  for (; next < lines.length; next++) {
    const mark = QUOTE.exec(lines[next].text);
    if (!mark) break;
    inside.push(cut(lines[next], mark[0].length));
  }
  return { kind: "quote", blocks: blocks(inside, depth + 1), next };
}

function list(lines, i, depth) {
  const first = item(lines[i]);
  if (!first) return null;
  const items = [];
  let isTight = true;
  let next = i;
  for (let open = first; open && open.mark === first.mark; open = next < lines.length && item(lines[next])) {
    const inside = [cut(lines[next], open.width)];
    next = itemEnd(lines, next + 1, open, inside);
    const end = inside.findLastIndex((line) => !isBlank(line)) + 1;
    if (end < inside.length && next < lines.length && item(lines[next])?.mark === first.mark) isTight = false;
    if (inside.slice(0, end).some(isBlank)) isTight = false;
    items.push(listItem(inside.slice(0, end), depth));
  }
  return { kind: "list", start: first.start, isTight, items, next };
}

// Adds the lines of an item behind its first one, and returns where they end. Models indent with two columns where
// Markdown wants three.
function itemEnd(lines, next, open, inside) {
  for (; next < lines.length; next++) {
    const line = lines[next];
    const isInside = indentOf(line.text) >= Math.min(open.width, 2);
    const isLazy = !isBlank(lines[next - 1]) && !starts(line) && !item(line);
    if (!isBlank(line) && !isInside && !isLazy) break;
    inside.push(strip(line, open.width));
  }
  return next;
}

function listItem(lines, depth) {
  const task = TASK.exec(lines[0]?.text ?? "");
  const inside = task ? [cut(lines[0], task[0].length), ...lines.slice(1)] : lines;
  return { task: task && task[1] !== " ", isTask: task !== null, blocks: blocks(inside, depth + 1) };
}

// What a line opens as an item of a list: its kind of mark, its number, and how wide the mark is.
function item({ text }) {
  const found = RULE.test(text) ? null : ITEM.exec(text);
  if (!found) return null;
  const number = parseInt(found[2], 10);
  const isOrdered = !Number.isNaN(number);
  return { mark: found[2].at(-1), start: isOrdered ? number : null, width: found[0].length };
}

// A row, a row of dashes, more rows.
function table(lines, i) {
  if (!lines[i].text.includes("|") || !lines[i + 1]?.text.includes("-")) return null;
  const marks = cells(lines[i + 1]).map(({ text }) => text);
  const head = cells(lines[i]);
  if (head.length !== marks.length || !marks.every((mark) => /^:?-+:?$/.test(mark))) return null;
  const align = marks.map((m) => (m.endsWith(":") ? (m.startsWith(":") ? "center" : "right") : "left"));
  const rows = [head];
  let next = i + 2;
  for (; next < lines.length && lines[next].text.includes("|") && !isBlank(lines[next]); next++) {
    rows.push(cells(lines[next]).slice(0, head.length));
  }
  return { kind: "table", align, rows, next };
}

function cells(line) {
  const found = [];
  let start = 0;
  for (let i = 0; i <= line.text.length; i++) {
    if (line.text[i] === "\\") i++;
    else if (i === line.text.length || line.text[i] === "|") {
      found.push(trim(cut({ ...line, text: line.text.slice(0, i) }, start)));
      start = i + 1;
    }
  }
  if (found.length > 1 && found[0].text === "") found.shift();
  if (found.length > 1 && found.at(-1).text === "") found.pop();
  return found;
}

// Code by four spaces.
function indented(lines, i) {
  let next = i;
  while (next < lines.length && (isBlank(lines[next]) || indentOf(lines[next].text) >= 4)) next++;
  if (next === i) return null;
  while (isBlank(lines[next - 1])) next--;
  return { kind: "code", language: "", lines: lines.slice(i, next).map((line) => strip(line, 4)), next };
}

function paragraph(lines, i) {
  let next = i + 1;
  while (next < lines.length && !isBlank(lines[next]) && !starts(lines[next])) next++;
  return { kind: "paragraph", lines: lines.slice(i, next).map((line) => strip(line, 3)), next };
}

// Whether a line ends a paragraph. As in CommonMark, a number does only if it is 1, so that a year does not.
function starts(line) {
  const { text } = line;
  const open = item(line);
  const isItem = open && (open.start === null || open.start === 1) && text.trim().length > 1;
  return isItem || FENCE.test(text) || HEADING.test(text) || RULE.test(text) || QUOTE.test(text);
}

function isBlank({ text }) {
  return text.trim() === "";
}

function indentOf(text) {
  let columns = 0;
  for (const c of text) {
    if (c === " ") columns++;
    else if (c === "\t") columns += 4 - (columns % 4);
    else break;
  }
  return columns;
}

// A line without its first characters.
function cut({ text, at }, length) {
  return { text: text.slice(length), at: at + length };
}

// A line without up to so many columns of indentation.
function strip(line, columns) {
  let length = 0;
  for (let left = columns; left > 0 && /[ \t]/.test(line.text[length] ?? ""); length++) {
    left -= line.text[length] === "\t" ? 4 : 1;
  }
  return cut(line, length);
}

function trim(line) {
  const trimmed = cut(line, line.text.length - line.text.trimStart().length);
  return { ...trimmed, text: trimmed.text.trimEnd() };
}
