"""Defects of kernels/loss_scale.cu and scaled_cast.cu, for test_loss_scale.py: (name, file, original, replacement)."""

from __future__ import annotations

_SCALE, _CAST = "loss_scale.cu", "scaled_cast.cu"

DEFECTS = [
    ("wrong factor", _CAST, "factor = factors[index];", "factor = factors[0];"),
    ("not scaled", _CAST, "converted<SPEC_T>(widened(v) * factor)", "converted<SPEC_T>(widened(v))"),
    ("frozen gradients count", _SCALE, " || !(flags[first / PER_FLAG] & TRAINABLE)) continue;", ") continue;"),
    ("infinity passes", _SCALE, "return wide - wide == SPEC_ACC(0);", "return wide == wide;"),
    ("NaN passes", _SCALE, "return wide - wide == SPEC_ACC(0);", "return wide - wide == SPEC_ACC(0) || wide != wide;"),
    ("skipped last element", _SCALE, "j < count; ++j) bad", "j < count - 1; ++j) bad"),
    ("one load a thread", _SCALE, "PER_THREAD + i) * THREADS + threadIdx.x", "PER_THREAD) * THREADS + threadIdx.x"),
    ("lost blocks", _SCALE, "block < blocks_of_check(count)", "block < 1"),
    ("active not cleared", _SCALE, "bad ? (unsigned char)0 : flags[place]", "flags[place]"),
    ("lost flags", _SCALE, "if (place < number)", "if (place < number - 1)"),
    ("scale grows a step late", _SCALE, "tally[0] + 1 >= INTERVAL", "tally[0] >= INTERVAL"),
    ("good steps not counted anew", _SCALE, "bad || grows ? 0", "bad ? 0"),
    ("skipped step counts", _SCALE, "    if (place < counts) steps[place] -= bad;\n", ""),
    ("only the first count goes back", _SCALE, "if (place < counts)", "if (place < 1)"),
    ("stale inverse", _SCALE, "  factors[1] = 1.0f / scale;\n", ""),
    ("no lower bound", _SCALE, "scale * 0.5f > SMALLEST ? scale * 0.5f : SMALLEST", "scale * 0.5f"),
    ("no upper bound", _SCALE, "scale * 2.0f < LARGEST ? scale * 2.0f : LARGEST", "scale * 2.0f"),
]
