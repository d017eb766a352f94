"""How long gpucnn takes, beside PyTorch in the same process: what `gpucnn bench` and scripts/benchmark.py run.

Each module of `SECTIONS` measures one thing, case by case; `runner` runs them and `report` shows what they found.
A figure that was not measured is None and is shown as "not measured".
"""

from __future__ import annotations

from typing import NamedTuple


class Section(NamedTuple):
    """A part of the benchmark: whether it needs a GPU, and whether it runs only when asked for by name."""

    needs_device: bool
    by_name_only: bool = False


SECTIONS = {
    "step": Section(needs_device=True),
    "mnist": Section(needs_device=True),
    "block": Section(needs_device=True),
    "pool": Section(needs_device=True),
    "kernels": Section(needs_device=True),
    "cpu": Section(needs_device=False),
    "overhead": Section(needs_device=False),
    "bounds": Section(needs_device=False, by_name_only=True),
}
"""By name, in the order of running: the most telling first, lest the time be used up.

A section is a module of this package with TITLE, COLUMNS, `cases(conditions)` and `summary(rows)`."""
