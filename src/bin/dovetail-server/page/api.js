// Requests to the server. Addresses are relative to the page's.

import { events } from "./sse.js";

const KEY = "dovetail.key";

// An answer of the server that is no success, in its own words.
class ServerError extends Error {
  constructor(message, status, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// Keeps the API key until the tab is closed.
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

// A JSON document of the server.
export async function get(path, signal) {
  return (await request(path, { signal })).json();
}

// Whether the model is loaded: true, false, or true where the server has no such address.
export async function isReady(signal) {
  try {
    await request("health", { signal });
  } catch (error) {
    if (error.status === 503) return false;
    if (!(error instanceof ServerError)) throw error;
  }
  return true;
}

// The chunks of a chat completion. A server that refuses the field `dovetail` is asked again without it.
export async function* complete(body, signal) {
  let response;
  try {
    response = await post("v1/chat/completions", body, signal);
  } catch (error) {
    if (!(error.status === 400 || error.status === 422) || !/dovetail/.test(error.message)) throw error;
    const { dovetail, ...others } = body;
    response = await post("v1/chat/completions", others, signal);
  }
  if (/^application\/json/.test(response.headers.get("content-type") ?? "")) {
    yield* whole(await response.json());
    return;
  }
  for await (const { event, data } of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = parse(data);
    if (event === "error" || chunk.error) throw new ServerError(words(chunk, data), 200);
    yield chunk;
  }
}

// An answer that was not streamed, as one chunk.
function* whole(body) {
  const choice = body.choices?.[0] ?? {};
  yield { ...body, choices: [{ index: 0, delta: choice.message ?? {}, finish_reason: choice.finish_reason ?? "stop" }] };
}

function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function request(path, { headers = {}, ...options }) {
  const key = sessionStorage.getItem(KEY);
  const authorization = key ? { authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers, ...authorization } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`the server cannot be reached (${error.message}); is it running?`);
  }
  if (response.ok) return response;
  const text = await response.text();
  throw new ServerError(words(parseOr(text), text), response.status, response.headers.get("retry-after"));
}

// What a server says of an error: OpenAI's shape, Ollama's, or the text itself.
function words(body, text) {
  const said = body?.error?.message ?? body?.error ?? body?.message ?? text;
  return (typeof said === "string" ? said : JSON.stringify(said)).slice(0, 2000) || "no explanation";
}

function parse(data) {
  const chunk = parseOr(data);
  if (!chunk || typeof chunk !== "object") throw new Error(`the server sent what is no JSON: ${data.slice(0, 200)}`);
  return chunk;
}

function parseOr(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
