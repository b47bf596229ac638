// A conversation as elements: one view a message, with what can be done with it.

import { spans } from "./answer.js";
import { format } from "./chart.js";
import { button, copy, eachFrame, element } from "./dom.js";
import { show } from "./render.js";

// The view of a message: its element, and `update` for an answer that has grown. `actions` are `regenerate` and `edit`,
// which get the message; `isRunning` says whether it is being written.
export function messageView(message, actions) {
  return message.role === "user" ? questionView(message, actions) : answerView(message, actions);
}

// The message field of an element's form, which Enter sends and Escape leaves.
export function onKeys(field, { send, leave }) {
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape" && leave) {
      event.stopPropagation();
      leave();
    }
  });
}

function questionView(message, actions) {
  const body = element("div", { class: "text" }, message.content);
  const made = element("article", { class: "message user", "aria-label": "You" }, body,
    element("footer", {}, button("Edit", () => edit(made, message, actions), { class: "small" }), copyButton(message)));
  return { element: made, update() {} };
}

function answerView(message, actions) {
  const summary = element("summary", {});
  const thought = element("div", { class: "markdown" });
  const reasoning = element("details", { class: "reasoning" }, summary, thought);
  const body = element("div", { class: "markdown" });
  const error = element("p", { class: "error", role: "alert" });
  const facts = element("span", { class: "quiet" });
  const regenerate = button("Regenerate", () => actions.regenerate(message), { class: "small" });
  const footer = element("footer", {}, facts, copyButton(message), regenerate);
  const made = element("article", { class: "message assistant", "aria-label": "Answer" }, reasoning, body, error, footer);

  const draw = () => {
    const runs = actions.isRunning(message);
    const coloured = spans(message);
    reasoning.hidden = !message.reasoning;
    summary.textContent = runs && !message.content ? "Reasoning …" : "Reasoning";
    show(thought, message.reasoning ?? "", []);
    show(body, message.content, coloured);
    error.hidden = !message.error;
    error.textContent = message.error ?? "";
    facts.textContent = inNumbers(message, runs);
    footer.classList.toggle("runs", runs);
    made.setAttribute("aria-busy", runs);
    made.classList.toggle("empty", runs && !message.content && !message.reasoning);
    actions.drawn(message, made);
  };
  draw();
  return { element: made, update: eachFrame(draw) };
}

// How long an answer is, how fast it came, what drafting brought.
function inNumbers(message, runs) {
  const { timings, rounds = [], finish } = message;
  const tokens = timings?.predicted_n ?? message.tokens;
  const drafts = timings?.draft_n;
  const pieces = rounds.reduce((sum, round) => sum + round.pieces.length, 0);
  const parts = [
    tokens && `${tokens} tokens`,
    timings?.predicted_per_second && `${format(timings.predicted_per_second)} tokens/s`,
    rounds.length && `${(pieces / rounds.length).toFixed(2)} tokens a round`,
    drafts && `${Math.round((100 * timings.draft_n_accepted) / drafts)} % of ${drafts} drafted accepted`,
    finish === "length" && "ended by the limit of tokens",
    (finish === "stopped" || (!finish && !runs && !message.error)) && "stopped",
  ];
  return parts.filter(Boolean).join(" · ");
}

function copyButton(message) {
  const made = button("Copy", async () => {
    made.textContent = await copy(message.content).then(() => "Copied", () => "Not copied");
    setTimeout(() => (made.textContent = "Copy"), 1500);
  }, { class: "small" });
  return made;
}

// Puts a field in place of a question. What follows the question is asked anew when it is sent.
function edit(article, message, actions) {
  const field = element("textarea", { "aria-label": "Edit the message", rows: Math.min(message.content.split("\n").length + 1, 12) });
  field.value = message.content;
  const shown = [...article.childNodes];
  const leave = () => article.replaceChildren(...shown);
  const send = () => field.value.trim() && actions.edit(message, field.value);
  onKeys(field, { send, leave });
  const small = { class: "small" };
  article.replaceChildren(field,
    element("footer", {}, button("Cancel", leave, small), button("Send again", send, small)));
  field.focus();
}
