"""examples/deploy/haproxy.cfg with HAProxy and two stubs: sessions stay, load spreads, a server ends, requests go on."""
import collections
import concurrent.futures
import http.cookiejar
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "examples/deploy/haproxy.cfg"
STUB = ROOT / "scripts/deploy_test/stub.py"
PATH = "/v1/chat/completions"


def free_ports(count):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError("waited for too long")
        time.sleep(0.05)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return None, None


def post(url, body, headers=None, opener=urllib.request.build_opener()):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", **(headers or {})})
    return opener.open(request, timeout=60)


class Proxied(unittest.TestCase):
    """HAProxy with the example's configuration before two servers."""

    def setUp(self):
        self.port, *self.ports = free_ports(3)
        self.servers = {port: self.start(port) for port in self.ports}
        text = CONFIG.read_text().replace(":8080", f"127.0.0.1:{self.port}")
        for example, port in zip(("8081", "8082"), self.ports, strict=True):
            self.assertEqual(text.count(f"127.0.0.1:{example}"), 2)
            text = text.replace(f"127.0.0.1:{example}", f"127.0.0.1:{port}")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        config = pathlib.Path(folder.name, "haproxy.cfg")
        config.write_text(text)
        proxy = subprocess.Popen(["haproxy", "-db", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.kill, proxy)
        self.url = f"http://127.0.0.1:{self.port}{PATH}"
        until(lambda: get(f"http://127.0.0.1:{self.port}/health")[0] == 200)
        time.sleep(1.5)  # until both servers have been checked

    def start(self, port):
        process = subprocess.Popen([sys.executable, STUB, "model.gguf", "--host", "127.0.0.1", "--port", str(port)])
        self.addCleanup(self.kill, process)
        until(lambda: get(f"http://127.0.0.1:{port}/health")[0] == 200)
        return process

    def kill(self, process):
        process.kill()
        process.wait()


class HAProxy(Proxied):
    def server_of(self, session=None, **body):
        with post(self.url, body, {"x-session-id": session} if session else None) as answer:
            return json.load(answer)["server"]

    def sessions(self, count=40):
        return {f"session-{i}": self.server_of(f"session-{i}") for i in range(count)}

    def test_a_session_stays_with_its_server(self):
        first = self.sessions()
        counts = collections.Counter(first.values())
        self.assertEqual(set(counts), set(self.ports), "both have some")
        self.assertGreater(min(counts.values()), 8)
        for _ in range(4):
            self.assertEqual(self.sessions(), first)

    def running(self):
        return [get(f"http://127.0.0.1:{port}/slots")[1]["running"] for port in self.ports]

    def test_a_browser_stays_by_a_cookie(self):
        found = set()
        for _ in range(8):
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
            servers = set()
            for _ in range(5):
                with post(self.url, {}, opener=opener) as answer:
                    servers.add(json.load(answer)["server"])
            self.assertEqual(len(servers), 1)
            found |= servers
        self.assertEqual(found, set(self.ports))

    def test_requests_without_a_session_go_where_less_runs(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            servers = list(pool.map(lambda _: self.server_of(seconds=1.5), range(8)))
        self.assertEqual(collections.Counter(servers), {port: 4 for port in self.ports})

    def test_events_are_passed_on_as_they_come(self):
        start = time.monotonic()
        with post(self.url, {"stream": True, "seconds": 3}) as answer:
            answer.readline()
            first = time.monotonic() - start
            answer.read()
        self.assertLess(first, 1)
        self.assertGreater(time.monotonic() - start, 2.5)

    def test_a_client_that_goes_away_is_gone_for_the_server(self):
        answer = post(self.url, {"stream": True, "seconds": 20})
        server = json.loads(answer.readline()[6:])["server"]
        answer.close()
        until(lambda: get(f"http://127.0.0.1:{server}/slots")[1]["gone"] == 1)

    def test_a_server_is_killed_and_requests_go_on(self):
        before = self.sessions()
        killed, left = self.ports
        self.servers[killed].kill()
        # At once, before a check has noticed.
        self.assertEqual(self.sessions(), {session: left for session in before})
        self.assertEqual([self.server_of() for _ in range(20)], [left] * 20)
        self.start(killed)
        until(lambda: self.sessions() == before)

    def test_a_server_that_ends_is_drained(self):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            # One after the other: two at once may both find the same server idle.
            running = []
            for count in (1, 2):
                running.append(pool.submit(self.server_of, seconds=3))
                until(lambda: sum(self.running()) == count)
            self.assertEqual(self.running(), [1, 1])
            ended, left = self.ports
            self.servers[ended].send_signal(signal.SIGTERM)
            until(lambda: get(f"http://127.0.0.1:{ended}/health")[0] == 503)
            # It answers 503: another one gets the request.
            self.assertEqual({self.server_of(f"session-{i}") for i in range(20)}, {left})
            self.assertEqual({each.result() for each in running}, set(self.ports), "what ran has ended well")

    def test_a_long_request_is_passed_on_whole(self):
        with post(self.url, {"prompt": "x" * 3_000_000}) as answer:
            self.assertGreater(json.load(answer)["bytes"], 3_000_000)
