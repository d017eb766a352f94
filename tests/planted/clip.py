"""Defects of kernels/squared_norm.cu and clip.cu, for test_clip.py: (name, file, original, replacement)."""

from __future__ import annotations

_NORM, _CLIP = "squared_norm.cu", "clip.cu"

DEFECTS = [
    (
        "frozen gradients count",
        _NORM,
        "flags[first] & TRAINABLE ? segments * (PER_FLAG / WIDTH) : 0",
        "segments * (PER_FLAG / WIDTH)",
    ),
    ("not squared", _NORM, "multiply_add(value, value, sum)", "sum + value"),
    (
        "squares overflow",
        _NORM,
        "multiply_add(value, value, sum)",
        "sum + (SPEC_ACC)(to_acc(pack.values[j]) * to_acc(pack.values[j]))",
    ),
    ("lost packs", _NORM, "i < packs; i += team.size", "i < team.size; i += team.size"),
    (
        "lost pieces",
        _NORM,
        "piece < bounds[blockIdx.x + 1]; piece += team.size",
        "piece < bounds[blockIdx.x] + team.size; piece += team.size",
    ),
    ("skipped last piece", _NORM, "piece < bounds[blockIdx.x + 1];", "piece < bounds[blockIdx.x + 1] - 1;"),
    ("groups run together", _NORM, "int piece = bounds[blockIdx.x] + team.rank", "int piece = bounds[0] + team.rank"),
    ("frozen gradients change", _CLIP, "  if (!(flags[first] & TRAINABLE)) return;\n", ""),
    ("lost tail of a piece", _CLIP, "i < segments * (PER_FLAG / WIDTH);", "i < THREADS;"),
    ("no lower limit", _CLIP, "g > most ? most : g < -most ? -most : g", "g > most ? most : g"),
    ("NaN is clipped", _CLIP, "g > most ? most : g < -most ? -most : g", "g > most ? most : g > -most ? g : -most"),
    ("norm not rooted", _CLIP, "square_root(squared)", "squared"),
    ("small gradients grow", _CLIP, "norm <= most ? 1.0 : most / norm", "most / norm"),
    ("infinite norm gives zero", _CLIP, " + (norm - norm);", ";"),
    ("another group's norm", _CLIP, "sums[pieces[3 * blockIdx.x]]", "sums[0]"),
    ("lost buffers", _CLIP, "i < SUMS; ++i", "i < 1; ++i"),
    ("removed barrier before the factor", _CLIP, "  __syncthreads();\n", ""),
]
