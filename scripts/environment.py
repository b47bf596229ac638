"""The Python environment of the scripts that need packages, in Dovetail's cache directory."""

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


def enter():
    """Runs the script again with the environment's Python, unless that is the one running."""
    if pathlib.Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        made = subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], capture_output=True, text=True)
        if made.returncode:
            sys.exit(f"error: cannot make {ENVIRONMENT}; apt-get install -y python3-venv")
    os.execv(python, [python, *sys.argv])


def require(package, note="", *options):
    """Installs `NAME==VERSION` unless it is there; if that fails, returns what pip said.

    Nothing is imported: importing a peer may end the process.
    """
    name, version = package.split("==")
    try:
        if importlib.metadata.version(name) == version:
            return None
    except importlib.metadata.PackageNotFoundError:
        pass
    print(f"installing {package} into {ENVIRONMENT}{note} …", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    outcome = subprocess.run([*pip, *options, package], capture_output=True, text=True)
    importlib.invalidate_caches()
    if outcome.returncode == 0:
        return None
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()] or ["pip failed"]
    return next((line for line in lines if line.upper().startswith("ERROR")), lines[-1])
