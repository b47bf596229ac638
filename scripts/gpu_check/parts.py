"""The parts of scripts/gpu-check: functions of a `Run`, which add to its report, and what they need."""
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import time

from .machine import memory
from .run import HERE, PartFailed

# Small ones that reach all kernels: racecheck takes a hundred times as long as the test itself.
SANITIZED = [
    "matmul::tests::epilogues", "matmul::tests::rows_that", "topk::tests::equal", "grow::tests::failures",
    "rope_kv::tests::cells", "attention_tree::tests::certain", "drafter::draft_tokens",
]
# Tests of the emulator, which pass without a GPU.
EMULATED = ["--skip", "emulated", "--skip", "fallback", "--skip", "the_order_of_blocks"]
ON_GPU = {"DOVETAIL_TEST_DEVICE": "gpu", "RUST_BACKTRACE": "0"}
# How they name the number of errors that they found.
SUMMARIES = {
    "memcheck": re.compile(r"ERROR SUMMARY: (\d+) error"),
    "racecheck": re.compile(r"RACECHECK SUMMARY: (\d+) hazard"),
}
TREE = "beam:6,10,16"  # the bars': 6 levels, 16 nodes
# Blocks of the drafter that belongs to a shape, where a bar names them.
BLOCKS = {"13b": 5}
PEER_TOKENS = 32
HF_TOKENS = 8
NO_MODEL = "not run: name a model with --model"


@contextlib.contextmanager
def reported(run, what):
    """A failure in here is a failed check and does not end the part."""
    try:
        yield
    except PartFailed as error:
        run.report.check(what, error, False)


def device(run):
    report = run.report
    report.check("GPU", run.o.gpu or f"none: {run.o.no_gpu}", run.o.gpu)
    report.add("CPU", f"{report.about['cpu']}, {run.o.threads} threads")
    told = run.call(run.bin / "dovetail-run", "--list-devices")
    lines = "not in this build" if "unexpected argument" in told.err else told.out.strip() or told.complaint()
    report.add("dovetail-run --list-devices", "; ".join(lines.splitlines()))


def parity(run):
    # Few at once: what they wait for is the GPU.
    command = [run.bin / "dovetail-tests", "gpu", *EMULATED, "--test-threads", "4"]
    outcome = run.call(*command, env=ON_GPU)
    counted = re.search(r"test result: \w+\. (\d+) passed; (\d+) failed", outcome.out)
    if not counted:
        raise PartFailed(f"dovetail-tests: {outcome.complaint()}")
    passed, failed = int(counted[1]), int(counted[2])
    names = re.findall(r"^test (?:draft::gpu::)?(\S+) \.\.\. FAILED", outcome.out, re.MULTILINE)
    figure = f"{passed} passed, {failed} failed{': ' if names else ''}{', '.join(names)}"
    run.report.check("unit tests on the GPU", figure, passed and not failed and outcome.code == 0, "all pass")
    if failed:
        run.report.keep("dovetail-tests gpu", outcome.out[outcome.out.find("failures:"):])


def sanitizer(run):
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if not tool:
        return run.report.add("compute-sanitizer", "not run: it is not here; it comes with the CUDA toolkit")
    start, seconds = time.monotonic(), run.deadline - time.monotonic()
    for name, share in (("memcheck", 0.5), ("racecheck", 1.0)):
        run.deadline = start + share * seconds
        sanitize(run, tool, name)


def sanitize(run, tool, name):
    """One process a test, so that a slow one leaves the others' results."""
    clean, wrong, undone = 0, [], []
    for test in run.o.sanitize:
        tests = [run.bin / "dovetail-tests", test, *EMULATED, "--test-threads", "1"]
        try:
            outcome = run.call(tool, "--tool", name, *tests, env=ON_GPU)
        except PartFailed as error:
            undone.append(f"{test}: {error}")
            continue
        said = outcome.out + outcome.err
        if "Device not supported" in said:
            return run.report.add(f"compute-sanitizer {name}", "not run: it does not support this device")
        errors = SUMMARIES[name].search(said)
        passed = outcome.code == 0 and re.search(r"test result: ok\. [1-9]", outcome.out)
        if passed and errors and errors[1] == "0":
            clean += 1
        else:
            what = errors[0] if errors else outcome.complaint()
            wrong.append(f"{test}: {what}{'' if passed else ', the test did not pass'}")
            run.report.keep(f"compute-sanitizer {name} {test}", said)
    figure = "; ".join([f"{clean} of {len(run.o.sanitize)} tests clean", *wrong, *undone])
    run.report.check(f"compute-sanitizer {name}", figure, not wrong and not undone, "clean")


def speed(run):
    with reported(run, "ring and products"):
        ring_and_products(run)
    if not run.o.model:
        return run.report.add("rounds of drafters", NO_MODEL)
    for drafter in run.o.drafters:
        with reported(run, f"round of {short(drafter)}"):
            files = ["-m", run.o.model, "--model-draft", drafter]
            answer, _ = run.bench("gpu", "--shape", 0, 0, *files, "--tree", TREE)
            times = answer["round"]
            what = f"round of {short(drafter)}, {TREE} (CPU, 2 threads: {times['cpu_us']:.0f} µs)"
            run.report.at_most(what, times["gpu_us"], 400, "µs", digits=0)


def ring_and_products(run):
    report = run.report
    answer, _ = run.bench("gpu")
    ring, copy = answer["ring_us"], answer["copy_gb_per_s"]
    report.at_most("message to the GPU and its answer, polling", ring["polling"], 3, "µs")
    for what in ("doorbells", "kernel", "launch"):
        report.add(f"the same, {what}", f"{ring[what]:.1f} µs")
    report.add("copy inside the GPU's memory", f"{copy:.0f} GB/s")
    for store in dict.fromkeys(product["weights"] for product in answer["products"]):
        for n in (1, 8, 16):
            rate = rate_of_block(answer["products"], store, n)
            what = f"products of a 13B-type block, {store}, n = {n} ({rate:.0f} GB/s)"
            report.at_least(what, rate / copy, 0.6, "of a copy")


def rate_of_block(products, store, n):
    """GB/s over the four products of a block: bytes of all by time of all."""
    mine = [p for p in products if p["weights"] == store and p["n"] == n]
    return sum(p["gb_per_s"] * p["us"] for p in mine) / sum(p["us"] for p in mine)


def short(drafter):
    """deep of NAME.deep.dgf.gguf."""
    return drafter.name.removesuffix(".gguf").removesuffix(".dgf").rsplit(".", 1)[-1]


def equality(run):
    if not run.o.model:
        return run.report.add("equal texts", NO_MODEL)
    prompts = run.prompts(run.o.limit)
    for drafter in run.o.drafters:
        # Both are compared with plain decoding, and so with each other; with a wide tree and with the usual one.
        for temp, tree in ((0, TREE), (0.8, None)):
            for place in ("gpu", "cpu"):
                what = f"text of plain decoding, {short(drafter)} on the {place.upper()}, T = {temp}"
                with reported(run, what):
                    answer = run.spec(run.o.model, drafter, place, prompts, temp, tree)
                    fault, length = answer["fault"], answer["mean_acceptance_length"]
                    equal = f"equal for {answer['prompts']} prompts, {length:.2f} tokens a round"
                    run.report.check(what, fault or equal, not fault, "equal")


def big(run):
    prompts = run.prompts(run.o.big_limit)
    start, seconds = time.monotonic(), run.deadline - time.monotonic()
    for i, shape in enumerate(run.o.big, 1):
        run.deadline = start + seconds * i / len(run.o.big)
        with reported(run, f"{shape}: speculation"):
            model, drafter = inflated(run, shape)
            for tree in run.o.tree or [TREE]:
                answer = run.spec(model, drafter, "gpu", prompts, tree=tree)
                run.speeds[shape] = max(answer["spec_tokens_per_second"], run.speeds.get(shape, 0))
                report_big(run.report, f"{shape}, {tree}", drafter, answer)


def report_big(report, shape, drafter, answer):
    fault = answer["fault"]
    equal = f"equal for {answer['prompts']} prompts"
    report.check(f"{shape}: text of plain decoding", fault or equal, not fault, "equal")
    plain, speculative = answer["plain_tokens_per_second"], answer["spec_tokens_per_second"]
    speeds = f"{plain:.2f} to {speculative:.2f} t/s, {answer['mean_acceptance_length']:.2f} tokens a round"
    report.at_least(f"{shape}: speed-up over plain decoding ({speeds})", answer["speedup"], 2.8, "×")
    total = answer["all"]
    draft, *others = (total[f"{what}_seconds"] for what in ("draft", "verify", "rest"))
    what = f"{shape}: share of drafting ({1e3 * draft / total['rounds']:.2f} ms a round)"
    report.at_most(what, 100 * draft / (draft + sum(others)), 5, "% of a round")
    if answer["vram"] is not None:
        report.at_most(f"{shape}: VRAM of {drafter.name}", answer["vram"] / 1e9, 3, "GB", digits=2)


def big_model(run, shape):
    return run.o.work / f"{run.o.model.stem}-{shape}.gguf"


def inflated(run, shape):
    """Model and drafter of a shape, made unless they are there."""
    small, model, blocks = run.o.drafters[0], big_model(run, shape), BLOCKS.get(shape)
    size = f"{shape}-{blocks}blocks" if blocks else shape
    drafter = run.o.work / f"{small.name.removesuffix('.dgf.gguf')}-{size}.dgf.gguf"
    if not (model.exists() and drafter.exists()):
        prepare_python(run)
        options = [] if model.exists() else ["--shape", shape]
        options += ["--drafter", small, drafter, *(["--drafter-blocks", blocks] if blocks else [])]
        made = run.call(sys.executable, HERE / "inflate", run.o.model, model, *options)
        if made.code:
            raise PartFailed(f"inflate: {made.complaint()}")
    return model, drafter


def prepare_python(run):
    """Lets inflate run in this Python with the package beside the script, and install nothing."""
    link = run.o.work / "cache" / "python"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(sys.prefix)
    test = "import gguf, numpy, environment as e; assert e.is_there(e.GGUF), 'another gguf'"
    found = run.call(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r}); {test}")
    if found.code:
        raise PartFailed(f"inflate needs numpy, tqdm, pyyaml and requests here: {found.complaint()}")


def peers(run):
    report = run.report
    for shape in run.o.big:
        model = big_model(run, shape)
        if not model.exists():
            report.add(f"{shape}: peers", f"not run: {model} is not there; run the part big first")
            continue
        for name, measure, bar in (("llama.cpp", llama_cpp, 3.5), ("Transformers FP32", transformers_fp32, 20)):
            what = f"{shape}: plain decoding of {name}, {run.o.threads} threads"
            with reported(run, what):
                rate, about = measure(run, model)
                report.add(what, about if rate is None else f"{rate:.2f} t/s{about}")
                if rate is not None and shape in run.speeds:
                    report.at_least(f"{shape}: speculation against {name}", run.speeds[shape] / rate, bar, "×")


def llama_cpp(run, model):
    """Tokens per second of its better setting, or none and why."""
    where = run.o.llama_cpp
    if where and where.is_file():
        options = ["-t", run.o.threads, "-p", 0, "-n", PEER_TOKENS, "-r", 2, "-ngl", 0, "-o", "json"]
        outcome = run.call(where, "-m", model, *options)
        try:
            return json.loads(outcome.out)[0]["avg_ts"], ""
        except (ValueError, LookupError):
            raise PartFailed(f"{where.name}: {outcome.complaint()}") from None
    if not (where or importlib.util.find_spec("llama_cpp")):
        return None, "not run: name llama-bench, or the folder of the package llama_cpp, with --llama-cpp"
    path = os.pathsep.join([str(where), run.env["PYTHONPATH"]] if where else [run.env["PYTHONPATH"]])
    speeds = {}
    for setting in ("repack", "mapped"):
        worker = [sys.executable, HERE / "peer_worker.py", "llama.cpp", setting]
        request = json.dumps(["speed", [[PEER_TOKENS, 1]]]) + "\n"
        sizes = [model, run.o.threads, 2 * PEER_TOKENS]
        outcome = run.call(*worker, *sizes, env={"PYTHONPATH": path}, text=request)
        # First what system it is, then the speeds.
        answers = [json.loads(line) for line in outcome.out.splitlines()]
        if len(answers) < 2 or "ok" not in answers[-1]:
            said = answers[-1].get("error") if answers else None
            raise PartFailed(f"llama.cpp: {said or outcome.complaint()}")
        speeds[setting] = answers[-1]["ok"][0]
    best = max(speeds, key=speeds.get)
    return speeds[best], f" ({', '.join(f'{setting} {rate:.2f}' for setting, rate in speeds.items())})"


def transformers_fp32(run, model):
    """Tokens per second of the same shape in float32, or none and why."""
    if not run.o.hf:
        return None, "not run: ask for it with --hf"
    free = memory("MemAvailable")
    outcome = run.call(sys.executable, HERE / "gpu_check" / "hf_worker.py", model, run.o.threads, HF_TOKENS)
    if outcome.code:
        killed = outcome.code == -signal.SIGKILL
        why = "it was killed, likely for want of memory" if killed else outcome.complaint()
        raise PartFailed(f"{why} ({free / 1e9:.0f} GB were free)")
    answer = json.loads(outcome.out.splitlines()[-1])
    run.report.raw.append({"command": ["hf_worker.py", str(model)], "answer": answer})
    about = f"{answer['weight_bytes'] / 1e9:.0f} GB of weights, {free / 1e9:.0f} GB were free, torch {answer['torch']}"
    return answer["tokens_per_second"], f" ({about}, transformers {answer['transformers']})"


# Seconds, and whether a GPU is needed. Without `big` and `peers` less than eight minutes.
PARTS = {
    "device": (device, 20, False), "parity": (parity, 120, True), "sanitizer": (sanitizer, 140, True),
    "speed": (speed, 60, True), "equality": (equality, 120, True), "big": (big, 480, True),
    "peers": (peers, 480, False),
}
