"""The sections of scripts/gpu_check.py: each module's `run(settings, outcome)` checks and measures one thing."""

from __future__ import annotations

SECTIONS = {
    "environment": 1,
    "launch": 1,
    "inline_ptx": 2,
    "captured_step": 3,
    "numpy_agreement": 2,
    "determinism": 3,
    "mnist": 6,
    "readme": 2,
    "benchmarks": 6,
    "kernels": 16,
}
"""Name to weight, in the order of running: a section may use its weight's part of the time that is left when it starts.

What a section does not use goes to those behind it. The kernel tests come last because they alone go on where an
earlier run stopped."""
