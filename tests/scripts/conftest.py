"""The scripts import their own package from scripts/; the CUDA device's fakes serve them too."""

from __future__ import annotations

import sys
from pathlib import Path

from devices.conftest import compiler, cupy
from gpu_check_runs import check, suite, traps

__all__ = ["check", "compiler", "cupy", "suite", "traps"]  # fixtures

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))
