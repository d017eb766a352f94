"""How long gpucnn takes, beside PyTorch in the same process: what `gpucnn bench` and scripts/benchmark.py run.

Each module of `SECTIONS` measures one thing, case by case; `runner` runs them and `report` shows what they found.
A figure that was not measured is None and is shown as "not measured".
"""

from __future__ import annotations

SECTIONS = {
    "step": True,
    "mnist": True,
    "block": True,
    "pool": True,
    "kernels": True,
    "cpu": False,
    "overhead": False,
}
"""Name to whether it needs a GPU, in the order of running: the most telling first, lest the time be used up.

A section is a module of this package with TITLE, COLUMNS, `cases(conditions)` and `summary(rows)`."""
