// The page: what is shown, what is running, and what the buttons do. The parts are
//
//   api.js  sse.js  connection.js            the server
//   answer.js  store.js  settings.js         data: answers and their rounds, conversations, requests
//   markdown.js  inline.js  render.js        text to elements
//   messages.js  sidebar.js  dom.js          the conversation
//   tokens.js  panel.js  tree.js  chart.js   the rounds; and compare.js

import { newAnswer, take } from "./answer.js";
import { complete, useKey } from "./api.js";
import { createCompare } from "./compare.js";
import { connect } from "./connection.js";
import { element } from "./dom.js";
import { messageView, onKeys } from "./messages.js";
import { createPanel } from "./panel.js";
import { openSettings, requestBody, showDefaults } from "./settings.js";
import { showConversations } from "./sidebar.js";
import * as store from "./store.js";
import { createTokens } from "./tokens.js";

const SAVE_EVERY_MS = 3000;
const at = (id) => document.getElementById(id);

const state = {
  conversations: store.loadConversations(),
  current: store.newConversation(),
  settings: store.loadSettings(),
  views: new Map(), // of the current conversation's messages
  running: null, // { controller, conversation, answer }, the last two only for an answer
  model: null,
};

const compare = createCompare({
  request() {
    const { messages, system } = state.current;
    const last = messages.findLastIndex((message) => message.role === "user");
    return last < 0 ? null : requestBody(messages.slice(0, last + 1), system, state.settings, state.model);
  },
  run: (work, failed) => running({}, work, failed),
});
const panel = createPanel(at("panel-body"), {
  marked: (answer, round) => tokens.mark(answer, round),
  colour(isOn) {
    state.settings = { ...state.settings, colours: isOn };
    store.saveSettings(state.settings);
    document.body.classList.toggle("coloured", isOn);
  },
  isColoured: state.settings.colours !== false,
  compare,
});
const tokens = createTokens(at("log"), {
  find: (token) => [...state.views].find(([, view]) => view.element.contains(token))?.[0],
  viewOf: (answer) => state.views.get(answer)?.element,
  point: panel.showRound,
  leave() {
    if (state.running?.conversation === state.current) panel.show(state.running.answer);
  },
});
const actions = {
  isRunning: (message) => state.running?.answer === message,
  regenerate(answer) {
    cutBefore(answer);
    writeAnswer(state.current);
  },
  edit(question, text) {
    cutBefore(question);
    ask(text);
  },
  drawn(answer, made) {
    tokens.remark(answer);
    if (actions.isRunning(answer)) scrollAlong();
  },
};

start();

function start() {
  document.body.classList.toggle("coloured", state.settings.colours !== false);
  connectButtons();
  connectKeys();
  store.watchConversations(reload);
  addEventListener("hashchange", () => {
    const id = location.hash.slice(1);
    if (!at(id)) chooseById(id); // else it is a part of the page
  });
  chooseById(location.hash.slice(1));
  meetServer();
}

async function meetServer() {
  try {
    const { model, context, props } = await connect((text) => (at("server").textContent = text));
    state.model = model;
    at("server").textContent = [model ?? "unknown model", context && `context ${context}`].filter(Boolean).join(" · ");
    showDefaults(at("settings"), props);
    at("key").hidden = true;
  } catch (error) {
    askForKey(error);
  }
}

function askForKey(error) {
  at("server").textContent = error.message;
  at("key").hidden = false;
  at("key-field").focus();
}

// Conversations.

function chooseById(id) {
  const found = state.conversations.find((each) => each.id === id);
  choose(found ?? (id === state.current.id ? state.current : store.newConversation()), false);
}

// Takes over what another tab has stored. What has not changed stays as it is shown.
function reload() {
  const { current, running } = state;
  const ours = [running?.conversation, current].filter(Boolean);
  const isOurs = (stored) => (own) => own.id === stored.id && (own === running?.conversation || own.changed === stored.changed);
  state.conversations = store.loadConversations().map((stored) => ours.find(isOurs(stored)) ?? stored);
  const found = state.conversations.find((each) => each.id === current.id) ?? current;
  if (found === current) showNames();
  else choose(found, false);
}

function choose(conversation, writesHash = true) {
  state.current = conversation;
  if (writesHash) history.pushState(null, "", `#${conversation.id}`);
  document.body.classList.remove("shows-sidebar");
  showAll();
}

function showAll() {
  const { current, views } = state;
  views.clear();
  for (const message of current.messages) views.set(message, messageView(message, actions));
  at("log").replaceChildren(...[...views.values()].map((view) => view.element), ...(views.size ? [] : [welcome()]));
  at("log").scrollTop = at("log").scrollHeight;
  panel.show(current.messages.findLast((message) => message.role === "assistant") ?? null);
  showNames();
  showRunning();
}

function showNames() {
  at("title").textContent = state.current.title;
  document.title = state.current.messages.length ? `${state.current.title} – Dovetail` : "Dovetail";
  showConversations(at("conversations"), state.conversations, state.current, {
    choose,
    rename(conversation, title) {
      if (title !== conversation.title) keep(Object.assign(conversation, { title, isNamed: true }));
      showNames();
    },
    remove(conversation) {
      if (state.running?.conversation === conversation) state.running.controller.abort();
      store.removeConversation(conversation);
      state.conversations = state.conversations.filter((each) => each !== conversation);
      if (conversation === state.current) choose(store.newConversation());
      else showNames();
    },
  });
}

function welcome() {
  return element("div", { class: "welcome" },
    element("h2", {}, "What would you like to know?"),
    element("p", {}, "A small drafter guesses the next tokens and the model checks all guesses in one pass. The answer is the " +
      "model's own, token for token. Guessed tokens are coloured, and the tree of each round is drawn beside the answer."));
}

// Stores a conversation, and says so if that fails.
function keep(conversation) {
  if (!state.conversations.includes(conversation)) state.conversations.unshift(conversation);
  try {
    store.saveConversation(conversation);
  } catch (error) {
    notice(error.message);
  }
}

function cutBefore(message) {
  const { messages } = state.current;
  state.running?.controller.abort();
  messages.splice(messages.indexOf(message));
}

// Answers.

function ask(text) {
  const { current } = state;
  if (!current.messages.length && !current.isNamed) current.title = store.titleOf(text);
  current.messages.push({ role: "user", content: text });
  if (location.hash.slice(1) !== current.id) history.pushState(null, "", `#${current.id}`);
  writeAnswer(current);
}

async function writeAnswer(conversation) {
  const answer = newAnswer();
  const body = requestBody(conversation.messages, conversation.system, state.settings, state.model);
  conversation.messages.push(answer);
  keep(conversation);
  const saving = setInterval(() => keep(conversation), SAVE_EVERY_MS);
  const update = () => {
    state.views.get(answer)?.update();
    if (state.current === conversation) panel.update();
  };
  await running({ conversation, answer }, async (signal) => {
    for await (const chunk of complete(body, signal)) {
      take(answer, chunk);
      update();
    }
    if (!answer.finish) answer.error = "the connection ended before the answer did";
  }, (error) => (answer.error = error), () => (answer.finish = "stopped"));
  clearInterval(saving);
  if (state.conversations.includes(conversation)) keep(conversation);
  update();
}

// Runs what can be stopped, one thing at a time: what ran before is stopped.
async function running(what, work, failed, stopped = () => failed("stopped")) {
  state.running?.controller.abort();
  const mine = { ...what, controller: new AbortController() };
  state.running = mine;
  at("said").textContent = "Writing";
  showRunning();
  if (what.answer) showAll();
  try {
    await work(mine.controller.signal);
    at("said").textContent = "Done";
  } catch (error) {
    if (mine.controller.signal.aborted) stopped();
    else {
      if (error.status === 401) askForKey(error);
      failed(inWords(error));
    }
  }
  if (state.running === mine) state.running = null;
  showRunning();
}

// What the server said, and what can be done if it asks to wait.
function inWords({ message, status, retryAfter }) {
  const code = status >= 400 ? `${status}: ` : "";
  return `${code}${message}${retryAfter ? ` (the server asks to try again in ${retryAfter} s)` : ""}`;
}

function showRunning() {
  at("send").hidden = state.running !== null;
  at("stop").hidden = state.running === null;
  document.body.classList.toggle("runs", state.running !== null);
}

// Follows the text while it is written, unless somebody scrolled up.
function scrollAlong() {
  const log = at("log");
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 120) log.scrollTop = log.scrollHeight;
}

// Buttons and keys.

function connectButtons() {
  const press = (id, act) => at(id).addEventListener("click", act);
  press("new", () => {
    choose(store.newConversation());
    at("input").focus();
  });
  press("stop", () => state.running?.controller.abort());
  press("show-sidebar", () => toggle("show-sidebar", "shows-sidebar"));
  press("show-panel", () => toggle("show-panel", "hides-panel"));
  press("hide-panel", () => toggle("show-panel", "hides-panel"));
  press("show-panel", panel.update);
  press("show-settings", () => openSettings(at("settings"), state.current.system, state.settings, (system, settings) => {
    state.settings = { ...settings, colours: state.settings.colours };
    store.saveSettings(state.settings);
    state.current.system = system;
    if (state.current.messages.length) keep(state.current);
  }));
  press("export", () => save("dovetail-conversations.json", store.exportConversations()));
  press("import", () => at("import-file").click());
  at("import-file").addEventListener("change", importFile);
  at("notice").querySelector("button").addEventListener("click", () => (at("notice").hidden = true));
  at("key").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(at("key-field").value.trim());
    at("key-field").value = "";
    meetServer();
  });
  if (matchMedia("(max-width: 1100px)").matches) toggle("show-panel", "hides-panel");
}

function toggle(id, name) {
  const isOn = document.body.classList.toggle(name);
  at(id).setAttribute("aria-expanded", name === "hides-panel" ? !isOn : isOn);
}

function connectKeys() {
  const field = at("input");
  const send = () => {
    const text = field.value;
    if (!text.trim() || state.running) return;
    field.value = "";
    fit();
    ask(text);
  };
  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + 2}px`;
  };
  field.addEventListener("input", fit);
  onKeys(field, { send });
  at("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || at("settings").open) return;
    if (document.body.classList.contains("shows-sidebar")) toggle("show-sidebar", "shows-sidebar");
    else state.running?.controller.abort();
  });
}

// Files and messages.

function save(name, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

async function importFile({ target }) {
  try {
    const count = store.importConversations(await target.files[0].text());
    notice(`${count} ${count === 1 ? "conversation" : "conversations"} imported`);
  } catch (error) {
    notice(error.message);
  }
  target.value = "";
  state.conversations = store.loadConversations();
  chooseById(state.current.id);
}

function notice(text) {
  at("notice").querySelector("p").textContent = text;
  at("notice").hidden = false;
}
