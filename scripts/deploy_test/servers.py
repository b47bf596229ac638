"""examples/deploy/haproxy.cfg with HAProxy and two dovetail-servers that have the default model."""
import json
import os
import pathlib
import subprocess

from .haproxy import ROOT, Proxied, get, post, until


class Servers(Proxied):
    @classmethod
    def setUpClass(cls):
        subprocess.run(["cargo", "build", "--quiet", "--locked", "--bin", "dovetail-server"], cwd=ROOT, check=True)
        cls.program = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug/dovetail-server"
        found = subprocess.run([ROOT / "scripts/setup"], capture_output=True, text=True, check=True)
        cls.model = os.environ.get("DOVETAIL_TEST_MODEL") or found.stdout.strip()

    def start(self, port):
        command = [self.program, self.model, "--host", "127.0.0.1", "--port", str(port), "-t", "1", "-c", "4096", "-np", "2"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.addCleanup(self.kill, process)
        until(lambda: get(f"http://127.0.0.1:{port}/health")[0] == 200, 60)
        return process

    def ask(self, session, messages):
        """The answer to a conversation, and how many tokens of its prompt were kept."""
        body = {"messages": messages, "max_tokens": 24, "temperature": 0}
        with post(self.url, body, {"x-session-id": session}) as answer:
            answer = json.load(answer)
        return answer["choices"][0]["message"], answer["timings"]["cache_n"]

    def test_conversations_keep_their_caches_and_outlive_a_server(self):
        talks = {f"talk-{i}": [{"role": "user", "content": f"Tell me {i + 2} facts about the sea."}] for i in range(6)}
        for session, talk in talks.items():
            answer, _ = self.ask(session, talk)
            talk += [answer, {"role": "user", "content": "And one more?"}]
        kept = [self.ask(session, talk) for session, talk in talks.items()]
        # More than the beginning that all prompts share.
        self.assertTrue(all(cached >= 40 for _, cached in kept), kept)
        self.servers[self.ports[0]].kill()
        again = [self.ask(session, talk) for session, talk in talks.items()]
        self.assertEqual([answer for answer, _ in again], [answer for answer, _ in kept])
