#!/usr/bin/env python3
"""A process in place of dovetail-server, with the flags and answers that a router sees: its name is its port.

POST /v1/chat/completions with {"seconds": s, "stream": bool} takes so long and streams ten events meanwhile. SIGTERM makes
it answer 503 while what runs goes on, as the server's --grace does.
"""
import argparse
import http.server
import json
import os
import signal
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    running, ends, gone = 0, False, 0

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/slots":
            return self.say(200, {"running": Handler.running, "gone": Handler.gone, "pid": os.getpid()})
        return self.say(503 if Handler.ends else 200, {"status": "ok"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if Handler.ends:
            return self.say(503, {"error": {"message": "shutting down"}})
        Handler.running += 1
        try:
            self.answer(body)
        except OSError:
            Handler.gone += 1
            self.close_connection = True
        finally:
            Handler.running -= 1
        return None

    def answer(self, body):
        seconds = body.get("seconds", 0)
        if not body.get("stream"):
            time.sleep(seconds)
            return self.say(200, {"server": self.server.server_port, "bytes": int(self.headers["content-length"])})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for i in range(10):
            event = f"data: {json.dumps({'server': self.server.server_port, 'event': i})}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(seconds / 10)
        self.wfile.write(b"0\r\n\r\n")
        return None

    def say(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int)
    o = parser.parse_args()
    server = http.server.ThreadingHTTPServer((o.host, o.port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # connections that are closed

    def end():
        Handler.ends = True
        while Handler.running:
            time.sleep(0.05)
        time.sleep(2.5)
        os._exit(0)

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end).start())
    server.serve_forever()


if __name__ == "__main__":
    main()
