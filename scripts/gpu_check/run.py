"""What the parts of scripts/gpu-check share: commands with a limit, dovetail-bench, prompts."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time
from dataclasses import dataclass

# Of the scripts, here and in the folder that travels.
HERE = pathlib.Path(__file__).resolve().parent.parent
# Spec-Bench counts all other categories as one.
CATEGORIES = ["translation", "summarization", "qa", "math_reasoning", "rag"]
N_PREDICT = 64


class PartFailed(Exception):
    """A part could not do its work; says why."""


@dataclass
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def complaint(self):
        """Its last word, or how it ended."""
        if self.code < 0:
            return f"it crashed ({signal.Signals(-self.code).name})"
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("error")] or lines
        return told[-1].removeprefix("error: ") if told else f"it ended with exit code {self.code}"


class Run:
    """What the parts share."""

    def __init__(self, o, report):
        self.o, self.report = o, report
        self.bin = o.work / "bin"
        self.deadline = 0.0
        self.speeds = {}  # of a shape: tokens per second with a drafter
        # Flags of the user's own must not change what is measured.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DOVETAIL_")}
        path = [str(HERE / "python"), os.environ.get("PYTHONPATH", "")]
        self.env |= {"DOVETAIL_CACHE": str(o.work / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.env["PYTHONPATH"] = os.pathsep.join(filter(None, path))

    def call(self, *command, env=None, text=None):
        """Runs a command until the part's time is over."""
        name, left = pathlib.Path(command[0]).name, self.deadline - time.monotonic()
        if left <= 0:
            raise PartFailed(f"no time was left for {name}; raise --time-limit")
        try:
            process = subprocess.Popen(
                [*map(str, command)], env={**self.env, **(env or {})}, text=True, errors="replace",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )
        except OSError as error:
            raise PartFailed(f"{name} cannot be run: {error.strerror}; build DIR on a machine like this one") from None
        try:
            out, err = process.communicate(text, timeout=left)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # what it started too
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise PartFailed(f"{name} was ended after {left:.0f} s; raise --time-limit") from None
            raise
        return Outcome(process.returncode, out, err)

    def bench(self, *arguments):
        """The JSON of dovetail-bench, and what it said beside it."""
        outcome = self.call(self.bin / "dovetail-bench", *arguments, "-o", "json")
        try:
            answer = json.loads(outcome.out)
        except ValueError:
            raise PartFailed(f"dovetail-bench {arguments[0]}: {outcome.complaint()}") from None
        self.report.raw.append({"command": [*map(str, arguments)], "answer": answer, "stderr": outcome.err})
        return answer, outcome.err

    def spec(self, model, drafter, device, prompts, temp=0, tree=None):
        """What speculation gave. `fault`: in what it was not drafted on that device with equal texts, or none."""
        answer, err = self.bench(
            "spec", "-m", model, "-md", drafter, "--prompts", prompts, "-n", N_PREDICT, "--temp", temp,
            "--draft-device", device, "-t", self.o.threads, *(["--tree", tree] if tree else []))
        on_gpu = re.search(r" on ([^()]*) \((\d+) MiB\)", answer["drafter"])
        answer["vram"] = int(on_gpu[2]) * 2**20 if on_gpu else None
        fell = [line for line in err.splitlines() if "on the CPU" in line or "drafter failed" in line]
        answer["fault"] = None
        if not answer["texts_equal"]:
            answer["fault"] = f"the texts of prompts {answer['different_prompts']} of {prompts.name} differ"
        elif device == "gpu" and (fell or not on_gpu):
            answer["fault"] = fell[0] if fell else "the drafter did not run on the GPU"
        return answer

    def prompts(self, count):
        """A file with so many prompts, taken from all categories in turn."""
        to = self.o.work / f"prompts-{count}.jsonl"
        categories = {}
        for line in self.o.prompts.read_text().splitlines():
            if line.strip():
                category = json.loads(line).get("category")
                categories.setdefault(category if category in CATEGORIES else "mt_bench", []).append(line)
        longest = max(map(len, categories.values()), default=0)
        turns = [lines[i] for i in range(longest) for lines in categories.values() if i < len(lines)]
        to.write_text("".join(f"{line}\n" for line in turns[:count]))
        return to
