"""What the figures are measured on: the GPU, its software, and which version of gpucnn."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import import_module, metadata
from typing import Any

from gpu_sections.outcome import Outcome
from gpu_sections.settings import ROOT, Settings

_PACKAGES = ("numpy", "click", "pytest", "torch", "cupy", "safetensors", "ml_dtypes", "hypothesis")
_OPTIONAL = {
    "safetensors": "weight files are not tested",
    "ml_dtypes": "bfloat16 is not tested",
    "torch": "nothing is compared with PyTorch",
}
_MEASURED_FOLDERS = ("gpucnn", "kernels", "scripts", "tests")


def run(settings: Settings, outcome: Outcome) -> None:
    """Fill in the facts; the section fails when the backend does not work."""
    facts: dict[str, Any] = {
        "backend": settings.backend,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}, {os.cpu_count()} processors",
        "source": source_digest(),
        **_git(settings.commit),
        **{name: _version(name) for name in _PACKAGES},
    }
    for name, consequence in _OPTIONAL.items():
        if not installed(name):
            facts[name] = "not installed"
            outcome.note(f"{name} is not installed: {consequence}")
    outcome.record["facts"] = facts
    outcome.save()
    reason = _unusable(settings)
    outcome.check(f"the {settings.backend} backend works", reason is None, reason or "")
    if reason is None:
        device = settings.activate().device
        facts.update(device.facts() if settings.backend == "cuda" else _emulated_facts(device))
    table = outcome.table("", ["what", "value"])
    for name, value in facts.items():
        table.add(name.replace("_", " "), value)
    outcome.find(reason or f"{facts['device']}, compute capability {facts['compute_capability']}")


def installed(package: str) -> bool:
    """Say whether a package can be used; torch is not imported for that, because it takes seconds."""
    if package == "torch":
        return _version(package) is not None
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def source_digest() -> str:
    """Return a hash of every file that decides the results: a commit's name says nothing about a changed tree."""
    digest = hashlib.sha256()
    for folder in _MEASURED_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = path.read_bytes()
                digest.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _git(told: str | None) -> dict[str, Any]:
    """Return commit and whether the tree differs from it; a bare copy of a tree has neither."""
    try:
        commit = _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
        changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--", *_MEASURED_FOLDERS)
    except (OSError, subprocess.SubprocessError):
        return {"commit": f"{told} (as --commit says)" if told else "unknown, not a git checkout", "changed": "unknown"}
    return {"commit": commit, "changed": bool(changed)}


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    names = ("cupy-cuda13x", "cupy-cuda12x", "cupy") if package == "cupy" else (package,)
    for name in names:
        try:
            return f"{metadata.version(name)}{f' ({name})' if name != package else ''}"
        except metadata.PackageNotFoundError:
            continue
    return None


def _unusable(settings: Settings) -> str | None:
    """Return why the backend does not work, or None."""
    try:
        settings.activate()
    except Exception as error:  # a broken installation may raise anything, and the report is to say what
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _emulated_facts(device: Any) -> dict[str, Any]:
    return {
        "device": f"emulated device on {platform.machine()} (NO GPU)",
        "compute_capability": f"{device.limits.capability / 10} (pretended)",
    }
