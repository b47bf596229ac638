"""A server in place of dovetail-server: serves the page and plays what a test has scripted."""
import http.server
import json
import pathlib
import threading
import time

PAGE = pathlib.Path(__file__).resolve().parents[2] / "src/bin/dovetail-server/page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


class Mock:
    """What the server does next, which tests set, and the bodies that it was sent."""

    def __init__(self):
        self.reset()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"mock": self}))
        self.server.handle_error = lambda *_: None  # clients that go away
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self):
        self.requests, self.paths = [], []
        self.key, self.health, self.refusal = None, 200, None
        self.answer = lambda body: stream(rounds())
        self.gone = threading.Event()  # a client that went away before the end


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        self.mock.paths.append(path)
        if path == "/health":
            return self.say(self.mock.health, {"status": "ok"})
        if path == "/" or path.startswith("/page/"):
            return self.say_file(PAGE / (path[len("/page/"):] or "index.html"))
        if not self.is_allowed():
            return None
        if path == "/v1/models":
            return self.say(200, {"data": [{"id": "mock-135m"}]})
        if path == "/props":
            params = {"temperature": 0.8, "top_p": 0.95}
            return self.say(200, {"model_path": "/m/mock.gguf", "default_generation_settings": {"n_ctx": 4096, "params": params}})
        return self.say(404, {"error": {"message": "not found"}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.mock.requests.append(body)
        if not self.is_allowed():
            return
        if self.mock.refusal and self.mock.refusal(body):
            return self.say(*self.mock.refusal(body))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            for piece in self.mock.answer(body):
                if isinstance(piece, float):
                    time.sleep(piece)
                else:
                    self.wfile.write(piece)
                    self.wfile.flush()
        except OSError:
            self.mock.gone.set()
        self.close_connection = True

    def is_allowed(self):
        if self.mock.key is None or self.headers["authorization"] == f"Bearer {self.mock.key}":
            return True
        self.say(401, {"error": {"message": "Invalid API key", "type": "authentication_error", "code": 401}})
        return False

    def say_file(self, path):
        if path.parent != PAGE or not path.is_file():
            return self.say(404, {"error": {"message": "not found"}})
        return self.send(200, TYPES[path.suffix], path.read_bytes(), {})

    def say(self, status, body, headers=None):
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/plain" if isinstance(body, str) else "application/json"
        return self.send(status, kind, text.encode(), headers or {})

    def send(self, status, kind, body, headers):
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def event(body):
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def delta(content=None, dovetail=None, finish=None, **fields):
    fields = {**fields, **({"content": content} if content is not None else {})}
    chunk = {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}
    return {**chunk, **({"dovetail": dovetail} if dovetail else {})}


def stream(chunks, pause=0.0, timings=None):
    """The bytes of an answer, an event at a time; `chunks` are bodies."""
    yield event(delta("", role="assistant"))
    for chunk in chunks:
        yield event(chunk)
        if pause:
            yield float(pause)
    yield event(delta(finish="stop"))
    yield event({"choices": [], "usage": {"completion_tokens": 12, "prompt_tokens": 5}, "timings": timings or TIMINGS})
    yield b"data: [DONE]\n\n"


TIMINGS = {"prompt_n": 5, "prompt_ms": 20.0, "predicted_n": 12, "predicted_ms": 300.0, "predicted_per_second": 40.0,
           "draft_n": 20, "draft_n_accepted": 8}


def rounds(*given):
    """One chunk a round. A round is the tokens it added, of which all but the last were drafted."""
    for n, tokens in enumerate(given or ROUNDS, 1):
        yield delta("".join(tokens), round_of(n, tokens))


def round_of(n, tokens):
    """A tree with the accepted path, and two rejected branches at each of its nodes."""
    nodes, accepted, parent = [{"text": "…", "parent": None, "p": 1.0}], [0], 0
    for depth, token in enumerate(tokens[:-1]):
        nodes.append({"text": token, "parent": parent, "p": 0.9 - 0.12 * depth})
        nodes += [{"text": other, "parent": parent, "p": p} for other, p in ((" of", 0.07), (" and", 0.02))]
        parent = len(nodes) - 3
        accepted.append(parent)
    nodes += [{"text": " or", "parent": parent, "p": 0.4}, {"text": "\n", "parent": parent, "p": 0.2}]
    pieces = [{"text": token, "drafted": i + 1 < len(tokens)} for i, token in enumerate(tokens)]
    return {"pieces": pieces, "round": {"n": n, "ms": 18.0 + 3 * len(tokens) + n % 3, "nodes": nodes, "accepted": accepted}}


ROUNDS = [["Ring", " buffers", " are"], [" **", "fast", "**"], [":"], [" no", " byte", " is"], [" moved", "."]]
