"""The process of one section, or of one function that needs a fresh process.

A section runs in a process of its own because one illegal address makes a process unable to use the GPU.

    python -m gpu_sections.worker section NAME SETTINGS OUTCOME
    python -m gpu_sections.worker call MODULE FUNCTION SETTINGS      # prints the function's result, JSON, as last line
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from gpu_sections.outcome import FAILED, Outcome
from gpu_sections.settings import ROOT, Settings


def environment() -> dict[str, str]:
    """Return the variables with which a process finds gpucnn and these sections, installed or not."""
    folders = [str(ROOT), str(ROOT / "scripts")]
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders + ([inherited] if inherited else []))}


def call(function: Any, settings: Settings, variables: dict[str, str] | None = None) -> Any:
    """Call a function of a section's module with the settings in a fresh process and return its JSON result.

    Raises:
        RuntimeError: the process failed; the message ends with what it wrote last.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.json"
        settings.write(path)
        wanted = [function.__module__, function.__name__, str(path)]
        command = [sys.executable, "-m", "gpu_sections.worker", "call", *wanted]
        done = subprocess.run(command, env={**environment(), **(variables or {})}, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-1:]) or "it wrote nothing"
        raise RuntimeError(f"{function.__name__} ended with status {done.returncode} in a fresh process: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(arguments: list[str]) -> None:
    """Do what the command line says; see the module's docstring."""
    if arguments[0] == "call":
        module, function, settings = arguments[1:]
        print("\n" + json.dumps(getattr(import_module(module), function)(Settings.read(settings))))
        return
    name, settings, outcome_path = arguments[1:]
    outcome = Outcome(Path(outcome_path))
    try:
        import_module(f"gpu_sections.{name}").run(Settings.read(settings), outcome)
    except Exception as error:
        traceback.print_exc()
        outcome.record["status"] = FAILED
        outcome.check("the section runs to its end", False, " ".join(f"{type(error).__name__}: {error}".split()))
    outcome.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
