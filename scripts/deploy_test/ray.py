"""examples/deploy/ray_serve.py with two replicas of the stub: one is killed, requests go on."""
import concurrent.futures
import os
import pathlib
import signal
import sys
import time
import unittest

import httpx
import ray
from ray import serve

from .haproxy import PATH, ROOT, STUB, free_ports, get, until

EXAMPLE = ROOT / "examples/deploy"


class RayServe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        sys.path.insert(0, str(EXAMPLE))
        cls.addClassCleanup(sys.path.remove, str(EXAMPLE))
        variables = {"DOVETAIL_SERVER": str(STUB), "PYTHONPATH": str(EXAMPLE)}
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
        cls.addClassCleanup(ray.shutdown)
        [port] = free_ports(1)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        cls.addClassCleanup(serve.shutdown)
        import ray_serve
        serve.run(ray_serve.app({"model": "model.gguf", "replicas": "2", "flags": "--parallel 4"}))
        cls.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def servers(self):
        """The ports of the two servers, both of which answer."""
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.client.post(PATH, json={"seconds": 0.3}), range(8)))
        return {answer.json()["server"] for answer in answers if answer.status_code == 200}

    def two_servers(self):
        until(lambda: len(self.servers()) == 2, 60)
        found = self.servers() | self.servers()
        self.assertEqual(len(found), 2)
        return sorted(found)

    def test_events_are_passed_on_as_they_come(self):
        start = time.monotonic()
        with self.client.stream("POST", PATH, json={"stream": True, "seconds": 3}) as answer:
            events = [time.monotonic() - start for line in answer.iter_lines() if line]
        self.assertEqual((answer.headers["content-type"], len(events)), ("text/event-stream", 10))
        self.assertLess(events[0], 1)
        self.assertGreater(events[-1], 2.5)

    def test_a_client_that_goes_away_is_gone_for_the_server(self):
        before = {port: get(f"http://127.0.0.1:{port}/slots")[1]["gone"] for port in self.two_servers()}
        with self.client.stream("POST", PATH, json={"stream": True, "seconds": 20}) as answer:
            next(answer.iter_lines())
        until(lambda: sum(get(f"http://127.0.0.1:{port}/slots")[1]["gone"] for port in before) == sum(before.values()) + 1)

    def test_a_server_is_killed_and_requests_go_on(self):
        self.kill_and_ask(lambda pid: pid)

    def test_a_replica_is_killed_and_requests_go_on(self):
        self.kill_and_ask(parent)

    def kill_and_ask(self, victim):
        """A request that meets the killed server may get 503; asked again, as clients do by themselves, all succeed."""
        killed, left = self.two_servers()
        os.kill(victim(get(f"http://127.0.0.1:{killed}/slots")[1]["pid"]), signal.SIGKILL)
        refused = 0
        for _ in range(100):
            for attempt in range(4):
                answer = self.client.post(PATH, json={})
                if answer.status_code == 200:
                    break
                self.assertEqual(answer.status_code, 503, answer.text)
                refused += 1
                time.sleep(0.5 * 2**attempt)
            self.assertEqual(answer.status_code, 200)
        after = self.two_servers()
        self.assertNotIn(killed, after)
        self.assertIn(left, after)
        until(lambda: get(f"http://127.0.0.1:{killed}/health")[0] is None)
        print(f"{refused} of {100 + refused} requests got 503 first", file=sys.stderr)


def parent(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])
