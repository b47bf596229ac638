"""The Python environment of the scripts that need packages, in Dovetail's cache directory."""

import contextlib
import fcntl
import importlib
import importlib.metadata
import os
import pathlib
import subprocess
import sys

CACHE = pathlib.Path(
    os.environ.get("DOVETAIL_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "dovetail"
)
ENVIRONMENT = CACHE / "python"
GGUF = "gguf==0.19.0"
LLAMA_CPP = "llama-cpp-python==0.3.36"
IK_LLAMA_CPP = "ik-llama-cpp-python==0.1.5"


def help(text):
    """Prints what a script is for and ends it, if it was called for that. Comes before packages are imported."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(text.strip())
        sys.exit()


@contextlib.contextmanager
def alone():
    """One process at a time: two that install undo each other's work."""
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        file = open(CACHE / "python.lock", "w")
    except OSError as error:
        sys.exit(f"error: cannot make {ENVIRONMENT}: {error}")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def enter():
    """Runs the script again with the environment's Python, unless that is the one running."""
    if pathlib.Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return
    python = ENVIRONMENT / "bin" / "python"
    with alone():
        if not python.exists():
            made = subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], capture_output=True, text=True)
            if made.returncode:
                sys.exit(f"error: cannot make {ENVIRONMENT}; apt-get install -y python3-venv")
    os.execv(python, [python, *sys.argv])


def require(package, note="", *options):
    """Installs `NAME==VERSION` unless it is there; if that fails, returns what pip said.

    Nothing is imported: importing a peer may end the process.
    """
    with alone():
        return None if is_there(package) else install(package, note, options)


def is_there(package):
    name, version = package.split("==")
    importlib.invalidate_caches()
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def install(package, note, options):
    print(f"installing {package} into {ENVIRONMENT}{note} …", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    outcome = subprocess.run([*pip, *options, package], capture_output=True, text=True)
    importlib.invalidate_caches()
    if outcome.returncode == 0:
        return None
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()] or ["pip failed"]
    return next((line for line in lines if line.upper().startswith("ERROR")), lines[-1])
