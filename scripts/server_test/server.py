"""Servers with the default model, started once for all tests: one as it is, and one whose chat template takes tools."""
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KEY = "a-key"
TOOLS = pathlib.Path(__file__).parent / "tools.jinja"
_running = {}  # process and address by the file of the template


def url(template=None):
    """The address of the server with this template, which is started if it does not run."""
    if template not in _running:
        build = ["cargo", "build", "--quiet", "--locked", "--bin", "dovetail-server"]
        subprocess.run(build, cwd=ROOT, check=True)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
        model = os.environ.get("DOVETAIL_TEST_MODEL")
        model = model or subprocess.run([ROOT / "scripts/setup"], capture_output=True, text=True, check=True).stdout.strip()
        command = [target / "debug/dovetail-server", model, "--port", "0", "-np", "4", "-c", "8192", "--api-key", KEY, "--grace", "2"]
        command += ["--chat-template-file", template] if template else []
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if found := re.search(r"listening at (http://\S+)", line):
                _running[template] = process, found[1]
                break
        # What it says later must not fill the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        wait(found[1])
    return _running[template][1]


def wait(url):
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/health") as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the model is not loaded")


def busy_slots():
    """How many slots work, by what the server says itself."""
    request = urllib.request.Request(f"{url()}/slots", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request) as answer:
        return sum(slot["is_processing"] for slot in json.load(answer))


def stop():
    """Ends the servers as a system does, and checks that they end well."""
    for process, _ in _running.values():
        process.terminate()
    for process, _ in _running.values():
        assert process.wait(timeout=20) == 0, "the server did not end well"
