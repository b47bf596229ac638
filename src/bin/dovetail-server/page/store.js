// Conversations and settings in the browser's storage, one entry each, so that tabs do not overwrite each other's.
//
// A conversation: { id, title, isNamed, system, changed, messages }. A message: { role, content }, and for answers what
// answer.js makes: reasoning, rounds, timings, finish; `error` is what the server said.

import { readRound, readTimings } from "./answer.js";

const CONVERSATION = "dovetail.conversation.";
const SETTINGS = "dovetail.settings";
const FORMAT = "dovetail-conversations";
const LONGEST_TITLE = 80;

// All conversations, the one changed last first.
export function loadConversations() {
  const found = Object.keys(localStorage)
    .filter((key) => key.startsWith(CONVERSATION))
    .map((key) => readConversation(parse(localStorage.getItem(key))));
  return found.filter(Boolean).sort((a, b) => b.changed - a.changed);
}

// A conversation that is not stored yet.
export function newConversation() {
  const id = crypto.getRandomValues(new Uint32Array(3)).join("-");
  return { id, title: "New chat", isNamed: false, system: "", changed: Date.now(), messages: [] };
}

// Stores a conversation. If the browser's storage is full, the rounds of the oldest conversations go first.
export function saveConversation(conversation) {
  conversation.changed = Date.now();
  if (store(conversation)) return;
  for (const old of loadConversations().reverse()) {
    if (old.id === conversation.id || !old.messages.some((message) => message.rounds?.length)) continue;
    store(withoutRounds(old));
    if (store(conversation)) return;
  }
  if (store(withoutRounds(conversation))) return;
  throw new Error("the browser's storage is full: this conversation is not kept; delete others, or export them first");
}

// Forgets a conversation.
export function removeConversation({ id }) {
  localStorage.removeItem(CONVERSATION + id);
}

// A first message as a title.
export function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length > LONGEST_TITLE ? `${line.slice(0, LONGEST_TITLE - 1)}…` : line || "New chat";
}

// All conversations as a JSON text.
export function exportConversations() {
  return JSON.stringify({ format: FORMAT, version: 1, conversations: loadConversations() }, null, 1);
}

// Stores the conversations of an exported text beside those that are there, and returns how many they were.
export function importConversations(text) {
  const file = parse(text);
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) {
    throw new Error("the file holds no conversations of Dovetail; choose one that Export wrote");
  }
  if (file.version !== 1) throw new Error(`the file has version ${file.version}; this page reads version 1`);
  const found = file.conversations.map(readConversation).filter(Boolean);
  for (const conversation of found) {
    if (localStorage.getItem(CONVERSATION + conversation.id)) conversation.id = newConversation().id;
    saveConversation(conversation);
  }
  return found.length;
}

// Calls `changed` when another tab changes a conversation.
export function watchConversations(changed) {
  addEventListener("storage", ({ key }) => {
    if (key === null || key.startsWith(CONVERSATION)) changed();
  });
}

// What was set, by name.
export function loadSettings() {
  const found = parse(localStorage.getItem(SETTINGS));
  return found && typeof found === "object" ? found : {};
}

export function saveSettings(settings) {
  localStorage.setItem(SETTINGS, JSON.stringify(settings));
}

// Whether there was room.
function store(conversation) {
  try {
    localStorage.setItem(CONVERSATION + conversation.id, JSON.stringify(conversation));
    return true;
  } catch (error) {
    if (error.name === "QuotaExceededError") return false;
    throw error;
  }
}

function withoutRounds(conversation) {
  const messages = conversation.messages.map((message) => (message.rounds ? { ...message, rounds: [] } : message));
  return { ...conversation, messages };
}

// What a file or the storage says of a conversation, or null if it is none.
function readConversation(from) {
  if (typeof from?.id !== "string" || !/^[\w-]{1,64}$/.test(from.id) || !Array.isArray(from.messages)) return null;
  return {
    id: from.id,
    title: titleOf(text(from.title)),
    isNamed: from.isNamed === true,
    system: text(from.system),
    changed: Number.isFinite(from.changed) ? from.changed : 0,
    messages: from.messages.map(readMessage).filter(Boolean),
  };
}

function readMessage(from) {
  if (typeof from?.content !== "string") return null;
  if (from.role === "user") return { role: "user", content: from.content };
  if (from.role !== "assistant") return null;
  return {
    role: "assistant",
    content: from.content,
    reasoning: text(from.reasoning),
    rounds: (Array.isArray(from.rounds) ? from.rounds : []).map(readRound).filter(Boolean),
    timings: readTimings(from.timings),
    finish: text(from.finish) || null,
    error: text(from.error) || undefined,
  };
}

function text(value) {
  return typeof value === "string" ? value : "";
}

function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}
