"""`gpucnn info`."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from gpucnn import __version__, backends
from gpucnn.cache import cache_directory
from gpucnn.devices import nvrtc
from gpucnn.kernel_source import kernel_directory

_PACKAGES = ("numpy", "ml_dtypes", "safetensors", "click", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc")


def facts() -> dict[str, Any]:
    """Return what this installation has and what works here."""
    reasons = {name: backends.available(name) for name in backends.NAMES}
    return {
        "gpucnn": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "backends": {name: "works" if reason is None else reason for name, reason in reasons.items()},
        "auto": "cuda" if reasons["cuda"] is None else "numpy",
        "nvrtc": nvrtc.available() or "works",
        "kernels": str(kernel_directory()),
        "cache": str(cache_directory()),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@click.command(name="info")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Say what is installed, which backends work here, and why others do not."""
    found = facts()
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"gpucnn {found['gpucnn']}, Python {found['python']}, {found['platform']}")
    click.echo(
        "packages  " + ", ".join(f"{name} {number or 'not installed'}" for name, number in found["packages"].items())
    )
    for name, state in found["backends"].items():
        click.echo(f"{name:<9} {state}")
    click.echo(f"auto      {found['auto']}")
    click.echo(f"nvrtc     {found['nvrtc']}")
    click.echo(f"kernels   {found['kernels']}")
    click.echo(f"cache     {found['cache']}")
