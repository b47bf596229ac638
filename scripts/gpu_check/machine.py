"""What a machine is, as scripts/gpu-check notes it."""
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys


def gpu():
    """What nvidia-smi says of the first GPU, or none and why."""
    query = ["--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"nvidia-smi: {getattr(error, 'strerror', None) or 'it does not answer'}"
    lines = (found.stdout or found.stderr).strip().splitlines() or ["nvidia-smi says nothing"]
    return (lines[0], None) if found.returncode == 0 and found.stdout.strip() else (None, lines[0])


def memory(key):
    info = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(rf"^{key}:\s+(\d+)", info, re.MULTILINE)[1]) * 1024


def physical_cores():
    siblings = pathlib.Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    logical = len(os.sched_getaffinity(0))
    return min(len({path.read_text() for path in siblings}) or logical, logical)


def about(here, gpu, threads):
    """All that the file says beside the figures. `here`: the folder with what `build` noted."""
    cpu = re.search(r"^model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    try:
        built = json.loads((here / "build.json").read_text())
    except (OSError, ValueError):
        sys.exit(f"error: {here} has no build.json; run gpu-check from the folder that scripts/gpu-check build made")
    versions = {}
    for package in ("numpy", "torch", "transformers", "llama_cpp_python"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return {
        **built, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "gpu": gpu,
        "cpu": cpu[1] if cpu else platform.machine(), "threads": threads, "memory_bytes": memory("MemTotal"),
        "kernel": platform.release(), "python": platform.python_version(), "packages": versions,
        "load": os.getloadavg()[0], "arguments": sys.argv[1:],
    }
