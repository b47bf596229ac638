#!/usr/bin/env python3
"""Tests the run of scripts/gpu-check with made-up programs, which answer as a plan says. Needs no GPU and no package;
run it by hand:

    python3 scripts/test_gpu_check.py
"""
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import environment  # noqa: E402

if __name__ == "__main__":
    environment.help(__doc__)

from gpu_check.build import SCRIPTS  # noqa: E402

# What each program does: `plan` is that of the test, `arguments` are its own.
HEAD = f"""#!{sys.executable}
import json, os, signal, sys, time
plan, arguments = json.loads(os.environ["PLAN"]), sys.argv[1:]
def after(flag):
    return arguments[arguments.index(flag) + 1]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *arguments]) + "\\n")
"""
PROGRAMS = {
    "nvidia-smi": """
if plan.get("no_gpu"):
    sys.exit("NVIDIA-SMI has failed")
print("NVIDIA H200, 580.159.04, 143771 MiB, 9.0")
""",
    "compute-sanitizer": """
if plan.get("unsupported"):
    print("========= Error: Device not supported. Please refer to the documentation")
    sys.exit(1)
if "matmul" in sys.argv[4]:
    time.sleep(plan.get("slow_sanitizer", 0))
assert os.environ["DOVETAIL_TEST_DEVICE"] == "gpu"
errors = plan.get(after("--tool"), 0)
print("test result: ok. 2 passed; 0 failed; 0 ignored" if not plan.get("no_test") else "test result: ok. 0 passed; 0 failed")
print(f"========= ERROR SUMMARY: {errors} errors" if after("--tool") == "memcheck" else
      f"========= RACECHECK SUMMARY: {errors} hazards displayed ({errors} errors, 0 warnings)")
""",
    "dovetail-run": """
if not plan.get("devices"):
    sys.exit("error: unexpected argument '--list-devices' found")
print("GPU 0: NVIDIA H200\\nCPU: 16 cores")
""",
    "dovetail-tests": """
assert os.environ["DOVETAIL_TEST_DEVICE"] == "gpu" and arguments[:3] == ["gpu", "--skip", "emulated"]
failed = plan.get("failed", 0)
for i in range(failed):
    print(f"test draft::gpu::t{i} ... FAILED")
print("failures:\\nthread panicked" if failed else "")
print(f"test result: x. {plan.get('passed', 28)} passed; {failed} failed; 0 ignored")
sys.exit(101 if failed else 0)
""",
    "dovetail-bench": """
what = arguments[0]
if what == plan.get("hangs"):
    time.sleep(60)
if what == plan.get("crashes"):
    os.kill(os.getpid(), signal.SIGSEGV)
assert not [name for name in os.environ if name.startswith("DOVETAIL_") and name != "DOVETAIL_CACHE"]
if what == "gpu":
    answer = {"gpu": "NVIDIA H200", "copy_gb_per_s": 4000.0, "products": [], "round": None,
              "ring_us": {"polling": plan.get("polling", 2.2), "doorbells": 5.0, "kernel": 7.0, "launch": 9.0}}
    if "--model-draft" in arguments:
        assert after("--tree") == "beam:6,10,16" and after("--shape") == "0"
        answer["round"] = {"gpu_us": plan.get("round", 350.0), "cpu_us": 2000.0}
    else:
        # A slow small matrix, and three that take most of the time.
        answer["products"] = [
            {"weights": store, "rows": 1, "columns": 1, "n": n, "us": us, "gb_per_s": rate}
            for store in ("f16", "q8_0") for n in (1, 8, 16, 32)
            for us, rate in ((10.0, 400.0), (10.0, 2800.0), (20.0, 2800.0), (10.0, plan.get("rate", 3200.0)))]
else:
    on_gpu = after("--draft-device") == "gpu"
    different = [2] if plan.get("differs") == [after("--draft-device"), after("--temp")] else []
    place = "on NVIDIA H200 (1900 MiB)" if on_gpu and not plan.get("on_cpu") else "on the CPU"
    assert ("--tree" in arguments) == (after("--temp") == "0"), arguments
    with open(after("--prompts")) as prompts:
        n = len(prompts.readlines())
    answer = {
        "texts_equal": not different, "different_prompts": different, "prompts": n, "mean_acceptance_length": 4.1,
        "drafter": f"dgf from {after('-md')} {place}, tree beam:7,10,16, p-min 0", "speedup": plan.get("speedup", 3.1),
        "plain_tokens_per_second": 10.0, "spec_tokens_per_second": 31.0,
        "all": {"rounds": 100, "draft_seconds": plan.get("draft", 0.4), "verify_seconds": 9.0, "rest_seconds": 0.6}}
    if plan.get("falls_back") and on_gpu:
        print("going on with the drafter on the CPU: an illegal address", file=sys.stderr)
print(json.dumps(answer))
sys.exit(1 if what == "spec" and different else 0)
""",
    "llama-bench": """
print(json.dumps([{"avg_ts": plan.get("llama", 8.0)}]))
""",
    "inflate": """
import gguf, environment
assert gguf.MADE_UP
environment.enter()
with open(after("--drafter"), "rb"):
    pass
for path in (arguments[1], arguments[arguments.index("--drafter") + 2]):
    open(path, "w").close()
""",
}
CATEGORIES = ["writing", "coding", "qa", "qa", "rag"]


class GpuCheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.dir, self.json, self.calls = (self.path / name for name in ("dir", "out.json", "calls"))
        self.model = self.path / "Tiny.gguf"
        self.model.touch()
        for name in ("bin", "models", "python/gguf", "python/gguf-0.19.0.dist-info", "python/numpy"):
            (self.dir / name).mkdir(parents=True)
        for name in SCRIPTS:
            shutil.copy2(HERE / name, self.dir)
        shutil.copytree(HERE / "gpu_check", self.dir / "gpu_check")
        for name, text in PROGRAMS.items():
            if name.startswith("dovetail-"):
                (self.dir / "bin" / f"{name}.xz").write_bytes(lzma.compress((HEAD + text).encode()))
            else:
                to = self.dir / name if name == "inflate" else self.path / "path" / name
                to.parent.mkdir(exist_ok=True)
                to.write_text(HEAD + text)
                to.chmod(0o755)
        for name in ("deep", "small"):
            (self.dir / "models" / f"Tiny.{name}.dgf.gguf").touch()
        prompts = [{"category": category, "turns": [f"{i}"]} for i, category in enumerate(CATEGORIES)]
        (self.dir / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
        (self.dir / "build.json").write_text('{"commit": "abc", "rustc": "1"}')
        (self.dir / "python/gguf/__init__.py").write_text("MADE_UP = True\n")
        (self.dir / "python/gguf-0.19.0.dist-info/METADATA").write_text("Name: gguf\nVersion: 0.19.0\n")
        (self.dir / "python/numpy/__init__.py").touch()

    def run_it(self, *arguments, model=True, **plan):
        """Exit code, table and errors; `self.rows` by what they are of."""
        path = f"{self.path / 'path'}{os.pathsep}{'/usr/bin'}{os.pathsep}/bin"
        env = {**os.environ, "PATH": path, "PLAN": json.dumps(plan), "CALLS": str(self.calls), "DOVETAIL_TREE": "chain:1"}
        named = ["--model", self.model] if model else []
        command = [sys.executable, self.dir / "gpu-check", "run", *named, "--work", self.path / "work", "--json", self.json]
        self.json.unlink(missing_ok=True)
        done = subprocess.run([*command, *arguments], env=env, capture_output=True, text=True)
        self.assertNotIn("Traceback", done.stderr)
        self.rows = {}
        if self.json.exists():
            self.file = json.loads(self.json.read_text())
            self.rows = {row["what"]: row for row in self.file["rows"]}
        return done.returncode, done.stdout, done.stderr

    def row(self, begin):
        found = [row for what, row in self.rows.items() if what.startswith(begin)]
        self.assertEqual(len(found), 1, f"{begin} in {list(self.rows)}")
        return found[0]

    def called(self, program):
        calls = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return [arguments for name, *arguments in calls if name == program]

    def assert_one_line(self, text, end):
        last = text.strip().splitlines()[-1]
        self.assertTrue(last.startswith("error: ") and end in last, text)

    def test_all_is_well(self):
        code, table, errors = self.run_it(devices=True)
        self.assertEqual((code, errors), (0, ""), table)
        self.assertTrue(all(row["met"] is not False for row in self.rows.values()), table)
        self.assertEqual(self.row("message to the GPU")["figure"], "2.2 µs")
        self.assertEqual(self.row("unit tests")["figure"], "28 passed, 0 failed")
        self.assertEqual(self.row("compute-sanitizer racecheck")["figure"], "7 of 7 tests clean")
        self.assertEqual(self.row("dovetail-run --list")["figure"], "GPU 0: NVIDIA H200; CPU: 16 cores")
        self.assertEqual(self.file["commit"], "abc")
        self.assertEqual(self.file["gpu"], "NVIDIA H200, 580.159.04, 143771 MiB, 9.0")
        # Bytes of the four by the time of the four, not the mean of their rates.
        product = self.row("products of a 13B-type block, q8_0, n = 8 (2400 GB/s)")
        self.assertEqual((product["figure"], product["bar"], product["met"]), ("0.60 of a copy", "≥ 0.6 of a copy", True))
        # A table of Markdown with four columns.
        lines = [line for line in table.splitlines() if line.startswith("|")]
        self.assertEqual({line.count("|") for line in lines}, {5})
        self.assertEqual(len(lines), 2 + len(self.file["rows"]))
        texts = [row for what, row in self.rows.items() if what.startswith("text of plain decoding")]
        self.assertEqual(len(texts), 8)
        # All prompts, from all categories in turn.
        chosen = (self.path / "work/prompts-12.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line)["turns"][0] for line in chosen], ["0", "2", "4", "1", "3"])

    def test_a_missed_bar_is_no_failure(self):
        code, table, _ = self.run_it("--only", "speed", polling=3.01, round=401, rate=3100)
        self.assertEqual(code, 0)
        for begin in ("message to", "round of deep", "round of small", "products of a 13B-type block, f16, n = 16"):
            self.assertIs(self.row(begin)["met"], False)
        self.assertIn("| 3.0 µs | ≤ 3 µs | NO |", table)

    def test_a_failed_check_does_not_end_the_others(self):
        code, _, errors = self.run_it("--only", "parity,speed,equality", failed=2, differs=["cpu", "0.8"])
        self.assertEqual(code, 1)
        self.assertEqual(self.row("unit tests")["figure"], "28 passed, 2 failed: t0, t1")
        self.assertIn("dovetail-tests gpu:\nfailures:\nthread panicked", errors)
        self.assertIs(self.row("text of plain decoding, small on the GPU, T = 0.8")["met"], True)
        wrong = self.row("text of plain decoding, small on the CPU, T = 0.8")
        self.assertEqual((wrong["figure"], wrong["met"]), ("the texts of prompts [2] of prompts-12.jsonl differ", False))
        self.assertTrue(self.row("round of small")["met"])
        self.assert_one_line(errors, "checks failed: 3, the first being unit tests")

    def test_no_test_is_no_success(self):
        code, _, _ = self.run_it("--only", "parity", passed=0)
        self.assertEqual((code, self.row("unit tests")["met"]), (1, False))

    def test_drafting_elsewhere_is_no_success(self):
        for plan, why in (({"on_cpu": True}, "did not run on the GPU"), ({"falls_back": True}, "an illegal address")):
            code, _, _ = self.run_it("--only", "equality", **plan)
            self.assertEqual(code, 1)
            wrong = self.row("text of plain decoding, deep on the GPU, T = 0.8")
            self.assertIn(why, wrong["figure"])
            self.assertIs(wrong["met"], False)
            self.assertTrue(self.row("text of plain decoding, deep on the CPU, T = 0.8")["met"])

    def test_sanitizer(self):
        code, _, _ = self.run_it("--only", "sanitizer", racecheck=3)
        self.assertEqual((code, self.row("compute-sanitizer memcheck")["met"]), (1, True))
        self.assertIn("RACECHECK SUMMARY: 3 hazard", self.row("compute-sanitizer racecheck")["figure"])
        code, _, _ = self.run_it("--only", "sanitizer", "--sanitize", "topk", no_test=True)
        self.assertIn("0 of 1 tests clean; topk", self.row("compute-sanitizer memcheck")["figure"])
        self.assertEqual(code, 1)
        code, _, _ = self.run_it("--only", "sanitizer", unsupported=True)
        self.assertEqual((code, self.row("compute-sanitizer memcheck")["met"]), (0, None))
        code, _, _ = self.run_it("--only", "sanitizer", "--sanitize", "topk,matmul", "--time-limit", "6", slow_sanitizer=20)
        self.assertEqual(code, 1)
        self.assertRegex(self.row("compute-sanitizer racecheck")["figure"], "^1 of 2 tests clean; matmul: .* ended after")
        (self.path / "path" / "compute-sanitizer").unlink()
        if not pathlib.Path("/usr/local/cuda/bin/compute-sanitizer").exists():
            self.assertEqual(self.run_it("--only", "sanitizer")[0], 0)
            self.assertIn("not run: it is not here", self.row("compute-sanitizer")["figure"])

    def test_what_hangs_or_crashes_is_named(self):
        start = time.monotonic()
        code, _, _ = self.run_it("--only", "speed,equality", "--time-limit", "3", hangs="gpu")
        self.assertLess(time.monotonic() - start, 30)
        self.assertRegex(self.row("ring and products")["figure"], "dovetail-bench was ended after 3 s; raise --time-limit")
        self.assertIn("no time was left", self.row("round of deep")["figure"])
        self.assertTrue(self.row("text of plain decoding, deep on the GPU, T = 0.8")["met"])
        self.assertEqual(code, 1)
        self.run_it("--only", "speed", crashes="gpu")
        self.assertEqual(self.row("ring and products")["figure"], "dovetail-bench gpu: it crashed (SIGSEGV)")

    def test_without_a_gpu_the_rest_runs(self):
        code, _, errors = self.run_it(no_gpu=True)
        self.assertEqual(code, 1)
        self.assertIn("no NVIDIA GPU can be used (NVIDIA-SMI has failed)", errors)
        self.assertIn("device can run without one", errors)
        self.assertEqual(self.row("dovetail-run --list")["figure"], "not in this build")
        self.assertEqual(self.row("speed")["figure"], "not run: no GPU")
        (self.path / "path" / "nvidia-smi").unlink()
        if not shutil.which("nvidia-smi"):
            self.assertEqual(self.run_it()[0], 1)
            self.assertIn("nvidia-smi: No such file", self.row("GPU")["figure"])

    def test_without_a_model(self):
        code, table, _ = self.run_it(model=False)
        self.assertEqual(code, 0, table)
        self.assertTrue(self.row("message to")["met"])
        for begin in ("rounds of drafters", "equal texts"):
            self.assertIn("--model", self.row(begin)["figure"])

    def test_big_shapes_and_peers(self):
        llama = self.path / "path" / "llama-bench"
        code, table, errors = self.run_it("--only", "big,peers", "--big", "7b,13b", "--llama-cpp", llama, draft=0.6, llama=9.0)
        self.assertEqual((code, errors), (0, ""), table)
        made = self.called("inflate")
        self.assertEqual([arguments[2:4] for arguments in made], [["--shape", "7b"], ["--shape", "13b"]])
        self.assertNotIn("--drafter-blocks", made[0])
        self.assertEqual(made[1][-2:], ["--drafter-blocks", "5"])
        self.assertTrue(self.row("13b, beam:6,10,16: speed-up over plain decoding (10.00 to 31.00 t/s, 4.10")["met"])
        share = self.row("13b, beam:6,10,16: share of drafting (6.00 ms a round)")
        self.assertEqual((share["figure"], share["met"]), ("5.9 % of a round", False))
        self.assertEqual(self.row("13b, beam:6,10,16: VRAM of Tiny.deep-13b-5blocks.dgf.gguf")["figure"], "1.99 GB")
        ratio = self.row("13b: speculation against llama.cpp")
        self.assertEqual((ratio["figure"], ratio["bar"], ratio["met"]), ("3.44 ×", "≥ 3.5 ×", False))
        self.assertIn("--hf", self.row("7b: plain decoding of Transformers")["figure"])
        # What is there is not made again, but a drafter that is missing is.
        (self.path / "work" / "Tiny.deep-7b.dgf.gguf").unlink()
        self.run_it("--only", "big", "--big", "7b,13b", "--tree", "chain:3", "--tree", "beam:4,4,8", speedup=2.7)
        self.assertEqual(len(self.called("inflate")), 3)
        self.assertNotIn("--shape", self.called("inflate")[-1])
        self.assertIs(self.row("7b, beam:4,4,8: speed-up")["met"], False)
        self.assertIs(self.row("13b, chain:3: speed-up")["met"], False)
        # Peers need no GPU, and other peers no llama.cpp.
        llama.unlink()
        code, _, errors = self.run_it("--only", "peers", "--big", "7b", "--llama-cpp", llama, no_gpu=True)
        self.assertIn("peers can run without one", errors)
        self.assertEqual((code, self.row("7b: plain decoding of llama.cpp")["met"]), (1, False))

    def test_options(self):
        for arguments, end in (
                (["--only", "device,magic"], "not device,magic"), (["--only", "big"], "name them with --big"),
                (["--drafters", "none.gguf"], "none.gguf is no file; name another"), (["--limit", "0"], "from 1 on")):
            code, _, errors = self.run_it(*arguments)
            self.assertNotEqual(code, 0)
            self.assertIn(end, errors.strip().splitlines()[-1])
        code, _, errors = self.run_it("--big", "7b", model=False)
        self.assert_one_line(errors, "name it with --model")
        (self.dir / "bin" / "dovetail-run.xz").write_bytes(b"no archive")
        code, _, errors = self.run_it("--only", "device")
        self.assert_one_line(errors, "build the folder anew")
        (self.dir / "build.json").unlink()
        code, _, errors = self.run_it("--only", "device")
        self.assert_one_line(errors, "has no build.json")


if __name__ == "__main__":
    unittest.main()
