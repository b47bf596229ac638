// Server-sent events from bytes, however the network cuts them. Follows the HTML standard's event stream format, save
// that an event which the end of the stream cuts off is still delivered: servers forget the last empty line.

const LONGEST_LINE = 16 << 20;

// The events `{ event, data }` of a stream of bytes.
export async function* events(stream) {
  const parser = eventParser();
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      yield* done ? parser.end() : parser.push(value);
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A parser that is pushed bytes and returns the events they complete.
export function eventParser() {
  const decoder = new TextDecoder();
  let rest = ""; // no line end in it, except perhaps a last \r
  let event = "";
  let data = [];

  function line(text, found) {
    if (text === "") {
      if (data.length) found.push({ event: event || "message", data: data.join("\n") });
      event = "";
      data = [];
      return;
    }
    const colon = text.indexOf(":");
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    if (field === "data") data.push(value);
    if (field === "event") event = value;
  }

  function text(piece, isLast) {
    const found = [];
    if (!isLast && !/[\r\n]/.test(piece) && !rest.endsWith("\r")) {
      rest += piece;
      if (rest.length > LONGEST_LINE) throw new Error("the server sent a line of more than 16 MB");
      return found;
    }
    const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    lines.forEach((each) => line(each, found));
    if (isLast) {
      line(rest.replace(/\r$/, ""), found);
      line("", found);
      rest = "";
    }
    return found;
  }

  return {
    push: (bytes) => text(decoder.decode(bytes, { stream: true }), false),
    end: () => text(decoder.decode(), true),
  };
}
