"""The folder that scripts/gpu-check takes to a machine without Rust: making it, and unpacking it there."""
import importlib.util
import json
import lzma
import pathlib
import shutil
import subprocess
import sys
import tempfile

import environment

from .run import HERE

# Beside the script, here and in the folder.
SCRIPTS = ["gpu-check", "inflate", "environment.py", "peer_worker.py"]
BINARIES = ["dovetail-bench", "dovetail-run", "dovetail-tests"]


def fail(what):
    sys.exit(f"error: {what}")


def build(o):
    """The stage that needs Rust."""
    if o.folder.exists() and any(o.folder.iterdir()) and not (o.folder / "build.json").exists():
        fail(f"{o.folder} holds other things; name a new folder")
    if o.prompts and not o.prompts.is_file():
        fail(f"{o.prompts} is no file; name one with prompts in Spec-Bench's form")
    environment.enter()
    problem = environment.require(environment.GGUF)
    if problem:
        fail(f"{environment.GGUF} cannot be installed: {problem}")
    found = cargo("build", "--release", "--bin", "dovetail-bench", "--bin", "dovetail-run")
    found |= cargo("test", "-p", "dovetail", "--lib", "--no-run")
    shutil.rmtree(o.folder, ignore_errors=True)
    for folder in ("bin", "models"):
        (o.folder / folder).mkdir(parents=True)
    for name in BINARIES:
        pack(found[name], o.folder / "bin" / f"{name}.xz")
    for script in SCRIPTS:
        shutil.copy2(HERE / script, o.folder)
    for drafter in (HERE.parent / "models").glob("*.dgf.gguf"):
        shutil.copyfile(drafter, o.folder / "models" / drafter.name)
    if o.prompts:
        shutil.copyfile(o.prompts, o.folder / "prompts.jsonl")
    packages = pathlib.Path(importlib.util.find_spec("gguf").origin).parent.parent
    python = [packages / "gguf", *packages.glob("gguf-*.dist-info")]
    for to, folders in ((o.folder, [HERE / "gpu_check"]), (o.folder / "python", python)):
        for folder in folders:
            shutil.copytree(folder, to / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    note(o.folder)
    for part in [*sorted(o.folder.rglob("*.xz")), o.folder / "models", o.folder / "python", o.folder]:
        files = [file for file in [part, *part.rglob("*")] if file.is_file()]
        print(f"{sum(file.stat().st_size for file in files) / 1e6:6.2f} MB  {part}")


def cargo(*arguments):
    """The programs that a cargo command made, by name; that of a library's tests ends in -tests."""
    command = ["cargo", *arguments, "--locked", "--message-format=json-render-diagnostics"]
    try:
        made = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        fail("cargo is missing; install Rust 1.89 or newer with rustup")
    if made.returncode:
        fail("the build failed; what cargo said above says why")
    lines = [json.loads(line) for line in made.stdout.splitlines() if line.startswith("{")]
    name = lambda line: line["target"]["name"] + ("-tests" if line["profile"]["test"] else "")
    return {name(line): line["executable"] for line in lines if line.get("executable")}


def pack(program, to):
    """A program without its symbols, compressed: what travels is to be small."""
    with tempfile.TemporaryDirectory() as folder:
        bare = pathlib.Path(folder) / "bare"
        try:
            subprocess.run(["strip", "-o", bare, program], check=True)
        except (OSError, subprocess.CalledProcessError):
            fail("strip is missing or failed; apt-get install -y binutils")
        with lzma.open(to, "wb") as file:
            file.write(bare.read_bytes())


def note(folder):
    """Writes what this was built from."""
    say = lambda *command: subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True).stdout.strip()
    changed = say("git", "status", "--porcelain", "--untracked-files=no")
    commit = say("git", "rev-parse", "HEAD") + ("-changed" if changed else "")
    about = {"commit": commit, "rustc": say("rustc", "--version")}
    (folder / "build.json").write_text(json.dumps(about) + "\n")


def unpack(work):
    """Makes the programs of the folder ready to run."""
    try:
        (work / "bin").mkdir(parents=True, exist_ok=True)
        for name in BINARIES:
            to = work / "bin" / name
            part = to.with_name(f"{name}.part")
            with lzma.open(HERE / "bin" / f"{name}.xz") as packed, open(part, "wb") as file:
                shutil.copyfileobj(packed, file)
            part.chmod(0o755)
            part.replace(to)
    except (OSError, lzma.LZMAError) as error:
        fail(f"the programs cannot be unpacked: {error}; build the folder anew, or name another --work")
