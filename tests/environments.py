"""Python environments of the tests' own, kept under .cache/ from run to run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache"


def environment(name, *requirements):
    """Return the python of a virtual environment that has these requirements and nothing else."""
    key = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{key}"
    python = folder / "bin" / "python"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run([sys.executable, "-m", "venv", folder])
            if requirements:
                pip(python, "install", *requirements)
            (folder / "ready").touch()
    return python


def pip(python, *args):
    return run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *args])


def run(command, **options):
    """Run a command that has to succeed; return what it printed."""
    environ = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DJANGO_SETTINGS_MODULE")
    }
    options["env"] = {**environ, **options.get("env", {})}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
