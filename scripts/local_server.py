"""A server on this machine, and requests to it over plain HTTP, for the scripts that measure and try servers."""

import http.client
import json
import socket
import subprocess
import tempfile
import time


class Server:
    """A process that serves at a free port; ready when `path` is answered with 200."""

    def __init__(self, name, command, path="/health"):
        self.name = name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*map(str, command), "--port", str(self.port)], stdout=self.log, stderr=self.log
        )
        try:
            self._wait(path)
        except BaseException:
            self.stop()
            raise

    def _wait(self, path):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with code {self.process.returncode}: {self.said()}")
            try:
                if self.request("GET", path)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"{self.name} is not ready after two minutes: {self.said()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the process as a system does; returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def said(self):
        """The end of what the process printed."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-1000:]

    def connect(self, timeout=600):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, timeout=600):
        """The status and the bytes of one request's answer."""
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path):
        return self._json(path, *self.request("GET", path))

    def post(self, path, **fields):
        """The answer, as JSON."""
        return self._json(path, *self.request("POST", path, json.dumps(fields)))

    def _json(self, path, status, text):
        if status != 200:
            raise RuntimeError(f"{self.name} answered {path} with {status}: {text[:500].decode()}")
        return json.loads(text)

    def stream(self, path, **fields):
        """The events of a streamed answer as JSON, each with the time at which it came."""
        connection = self.connect()
        try:
            body = json.dumps(fields | {"stream": True})
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"{self.name} answered {path} with {answer.status}: {answer.read(500)}")
            while line := answer.readline():
                if line.startswith(b"data: ") and line[6:].strip() != b"[DONE]":
                    yield time.monotonic(), json.loads(line[6:])
        finally:
            connection.close()

    def memory_mib(self):
        """Resident memory of its own: without mapped files, in MiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["RssAnon"].split()[0]) / 1024
