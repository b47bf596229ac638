// The list of conversations: choose, rename, delete.

import { button, element } from "./dom.js";

// Shows the conversations in `place`. `actions` are `choose`, `rename` and `remove`, which get the conversation.
export function showConversations(place, conversations, current, actions) {
  place.replaceChildren(...conversations.map((conversation) => entry(conversation, conversation === current, actions)));
}

function entry(conversation, isCurrent, actions) {
  const name = conversation.title;
  const small = (sign, word, press) => button(sign, press, { class: "small", title: word, "aria-label": `${word} ${name}` });
  const made = element("li", {},
    button(name, () => actions.choose(conversation), { class: "choose", "aria-current": isCurrent ? "true" : null }),
    small("✎", "Rename", () => rename(made, conversation, actions)),
    small("×", "Delete", () => confirmed(name) && actions.remove(conversation)));
  return made;
}

function confirmed(name) {
  return confirm(`Delete the conversation “${name}”? It cannot be brought back.`);
}

function rename(place, conversation, actions) {
  const field = element("input", { "aria-label": "Name of the conversation", maxlength: 80 });
  field.value = conversation.title;
  const done = (isKept) => actions.rename(conversation, isKept && field.value.trim() ? field.value.trim() : conversation.title);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) field.blur();
    if (event.key === "Escape") {
      event.stopPropagation();
      field.value = conversation.title;
      field.blur();
    }
  });
  field.addEventListener("blur", () => done(true), { once: true });
  place.replaceChildren(field);
  field.select();
}
