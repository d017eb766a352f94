"""Kernels and descriptions of launches in the working folder, and the command that checks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from gpucnn.cli import main

HEAD = 'extern "C" __global__ void k'
ADDED = f"{HEAD}(float* y, const float* x, int n) {{ int i = threadIdx.x; if (i < n) y[i] += x[i]; }}\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def written(text: str, **launch: Any) -> tuple[str, str]:
    """Write a kernel and a description of its launch; return their names as arguments."""
    Path("k.cu").write_text(text)
    Path("launch.json").write_text(json.dumps({"grid": 1, "block": 32, **launch}))
    return "k.cu", "--launch=launch.json"
