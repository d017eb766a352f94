"""Defects of the random kernels, for test_random.py: (name, file, original text, replacement)."""

from __future__ import annotations

_PHILOX, _DROPOUT = "random.cuh", "dropout.cu"

DEFECTS = [
    ("nine rounds", _PHILOX, "round < 10", "round < 9"),
    ("key schedule swapped", _PHILOX, "key.x += 0x9E3779B9u;", "key.x += 0xBB67AE85u;"),
    ("multipliers swapped", _PHILOX, "low0 = 0xD2511F53u * counter.x", "low0 = 0xCD9E8D57u * counter.x"),
    ("threshold itself dropped", _DROPOUT, "word >= threshold", "word > threshold"),
    ("scale forgotten", _DROPOUT, "to_acc(x) * scale", "to_acc(x)"),
    ("step forgotten", _DROPOUT, "stream, state[2]), make_uint2", "stream, 0u), make_uint2"),
    (
        "stream forgotten",
        _DROPOUT,
        "(unsigned)(number >> 32), stream, state[2])",
        "(unsigned)(number >> 32), 0u, state[2])",
    ),
    ("words of the wrong pack", _DROPOUT, "words[part + i]", "words[i]"),
    ("dropped tail guard", _DROPOUT, "  if (first + WORDS <= count) {\n", "  if (true) {\n"),
    ("skipped last element", _DROPOUT, "if (first + i < count) y", "if (first + i + 1 < count) y"),
    ("state half kept", _DROPOUT, "if (global_thread() < 3)", "if (global_thread() < 2)"),
    ("wrong counter", "counter.cu", "counter[index] = ", "counter[0] = "),
]
