"""`gpucnn info`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from gpucnn import __version__, backends, cache
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.devices import nvrtc, sass
from gpucnn.devices.cuda.driver import supported_cuda
from gpucnn.devices.emulated import toolchain
from gpucnn.kernel_source import kernel_directory

_PACKAGES = (
    "numpy", "ml_dtypes", "safetensors", "click", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc", "pillow",
    "matplotlib", "tensorboardX",
)  # fmt: skip
_EXTRAS = {"pillow": "images", "matplotlib": "plot", "tensorboardX": "tensorboard"}
"""Which extra of gpucnn installs a package."""
_WORKS = "works"


def facts() -> dict[str, Any]:
    """Return what this installation has, what works here and what would make the rest work."""
    reasons = {name: backends.available(name) for name in backends.NAMES}
    packages = {name: _version(name) for name in _PACKAGES}
    driver = supported_cuda()
    compiler = nvrtc.available()
    automatic = "cuda" if reasons["cuda"] is None else "numpy"
    return {
        "gpucnn": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "packages": packages,
        "backends": {name: reason or _WORKS for name, reason in reasons.items()},
        "auto": automatic,
        "backend": _chosen(automatic, reasons["cuda"]),
        "driver_supports_cuda": None if driver is None else f"{driver[0]}.{driver[1]}",
        "gpu": _gpu() if reasons["cuda"] is None else None,
        "nvrtc": compiler or _WORKS,
        "nvdisasm": sass.available() or _WORKS,
        "compilers": {
            "nvrtc": None if compiler else ".".join(map(str, nvrtc.load().version)),
            "g++": None if toolchain.unavailable() else toolchain.version(toolchain.compiler()),
        },
        "kernels": str(kernel_directory()),
        "cache": str(cache.cache_directory()),
        "caches": [
            {"name": held.path.name, "path": str(held.path), "files": held.files, "bytes": held.nbytes}
            for held in cache.held()
        ],
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith("GPUCNN_")},
        "mend": remedy(reasons, packages, driver, nvrtc_works=compiler is None),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _chosen(automatic: str, cuda: str | None) -> dict[str, str]:
    """Return which backend a program gets that names none, and why."""
    named = os.environ.get("GPUCNN_BACKEND")
    if named and named != "auto":
        why = "GPUCNN_BACKEND names it"
        return {"name": named, "why": why if named in backends.NAMES else f"{why}, but there is no such backend"}
    return {"name": automatic, "why": f"auto takes it, as CUDA {'works' if cuda is None else 'does not work'} here"}


def _gpu() -> dict[str, Any] | None:
    backend = backends.get_backend("cuda")
    return backend.device.facts() if isinstance(backend, KernelBackend) else None


def remedy(
    reasons: dict[str, str | None], packages: dict[str, str | None], driver: tuple[int, int] | None, *,
    nvrtc_works: bool,
) -> str | None:  # fmt: skip
    """Return one command that installs what is missing, None where nothing is that a command can install.

    Args:
        reasons: why backends do not work, by name.
        packages: versions by name, None for those not installed.
        driver: the newest CUDA that the NVIDIA driver supports; without one, CuPy is not missed.
        nvrtc_works: whether there is a compiler for GPUs.
    """
    extras = [extra for package, extra in _EXTRAS.items() if packages[package] is None]
    others = []
    if driver is not None and reasons["cuda"] and not packages["cupy-cuda13x"] and not packages["cupy-cuda12x"]:
        extras.insert(0, f"cuda{min(driver[0], 13)}x-ctk")
    elif not nvrtc_works:
        others += ["nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cuda-crt"]
    wanted = ([f'"gpucnn[{",".join(extras)}]"'] if extras else []) + others
    commands = [f"pip install {' '.join(wanted)}"] if wanted else []
    if sys.platform == "linux" and toolchain.unavailable() is not None:
        commands.insert(0, _install_compiler())
    return " && ".join(commands) or None


def _install_compiler() -> str:
    """Return how this Linux installs g++."""
    ways = {
        "apt-get": "apt-get install -y g++", "dnf": "dnf install -y gcc-c++", "pacman": "pacman -S --noconfirm gcc",
        "zypper": "zypper install -y gcc-c++", "apk": "apk add g++",
    }  # fmt: skip
    found = next((way for program, way in ways.items() if shutil.which(program)), ways["apt-get"])
    return found if os.geteuid() == 0 else f"sudo {found}"


@click.command(name="info", short_help="Say what works here and what is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Say what is installed, which backend is chosen and why, and the command that mends what is missing."""
    found = facts()
    click.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> list[str]:
    installed = [f"{name} {number}" for name, number in found["packages"].items() if number]
    missing = [name for name, number in found["packages"].items() if not number]
    rows = [
        ("packages", ", ".join(installed)),
        ("without", ", ".join(missing)),
        ("backend", "{name}: {why}".format(**found["backend"])),
        *found["backends"].items(),
        ("driver", f"supports CUDA {found['driver_supports_cuda']}" if found["driver_supports_cuda"] else "none found"),
        ("gpu", ", ".join(f"{name} {value}" for name, value in (found["gpu"] or {}).items())),
        ("nvrtc", found["compilers"]["nvrtc"] or found["nvrtc"]),
        ("nvdisasm", found["nvdisasm"]),
        ("g++", found["compilers"]["g++"] or "not found"),
        ("kernels", found["kernels"]),
        ("cache", found["cache"]),
        *(("", f"{held['name']}: {held['files']:,} files, {held['bytes']:,} bytes") for held in found["caches"]),
        *(("set", f"{name}={value}") for name, value in found["environment"].items()),
        ("mend", found["mend"] or "nothing is missing that a command can install"),
    ]
    title = f"gpucnn {found['gpucnn']}, Python {found['python']}, {found['platform']}"
    return [title, *(f"{name:<9} {text}" for name, text in rows if text)]
