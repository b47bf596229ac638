"""The Python environment of the scripts that need packages, in Dovetail's cache directory."""

import importlib.util
import os
import pathlib
import subprocess
import sys

CACHE = pathlib.Path(
    os.environ.get("DOVETAIL_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "dovetail"
)
ENVIRONMENT = CACHE / "python"
GGUF = ("gguf", "gguf==0.19.0")
LLAMA_CPP = ("llama_cpp", "llama-cpp-python==0.3.36")
IK_LLAMA_CPP = ("ik_llama_cpp", "ik-llama-cpp-python==0.1.12")


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
    """Installs a package (module name, requirement) if it is missing; what pip said if that fails.

    The module is looked for, not imported: importing a peer may end the process.
    """
    module, requirement = package
    if importlib.util.find_spec(module):
        return None
    print(f"installing {requirement} into {ENVIRONMENT}{note} …", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    outcome = subprocess.run([*pip, *options, requirement], capture_output=True, text=True)
    importlib.invalidate_caches()
    if outcome.returncode == 0:
        return None
    lines = [line for line in outcome.stderr.splitlines() if line.strip()] or ["pip failed"]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines)[-1].strip()
