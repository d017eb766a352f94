"""Defects of the optimizer kernels, for test_optimizer.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FLAT, _SGD, _ADAM = "flat_buffer.cuh", "sgd.cu", "adam.cu"

DEFECTS = [
    ("wrong bias correction", _ADAM, "SPEC_ACC(t) * logarithm(beta)", "SPEC_ACC(t + 1) * logarithm(beta)"),
    (
        "bias correction with cancellation",
        _ADAM,
        "return -exponential_minus_1(SPEC_ACC(t) * logarithm(beta));",
        "return SPEC_ACC(1) - power(beta, SPEC_ACC(t));",
    ),
    ("no bias correction of the mean", _ADAM, "rate * (mean / correction1)", "rate * mean"),
    ("no bias correction of the square", _ADAM, "square_root(square / correction2)", "square_root(square)"),
    (
        "epsilon inside the root",
        _ADAM,
        "(square_root(square / correction2) + epsilon)",
        "square_root(square / correction2 + epsilon)",
    ),
    ("stale moment", _ADAM, "    store_pack<WIDTH>(first_moment + first, m);\n", ""),
    ("decay not scaled by the rate", _ADAM, "value -= rate * decay * value", "value -= decay * value"),
    ("decay always decoupled", _ADAM, "constexpr bool DECOUPLED = SPEC_DECOUPLED;", "constexpr bool DECOUPLED = true;"),
    ("gradient not squared", _ADAM, "(SPEC_ACC(1) - beta2) * gradient * gradient", "(SPEC_ACC(1) - beta2) * gradient"),
    ("nesterov forgotten", _SGD, "(SPEC_NESTEROV ? multiply_add(momentum, speed, gradient) : speed)", "speed"),
    ("velocity not stored", _SGD, "    store_pack<WIDTH>(velocity + first, v);\n", ""),
    ("rate forgotten", _SGD, "before - rate * gradient", "before - gradient"),
    ("frozen parameters move", _FLAT, "  if (!(flag & TRAINABLE)) return;\n", ""),
    ("everything decays", _FLAT, "const bool decayed = (flag & DECAYED) != 0u;", "const bool decayed = true;"),
    ("nothing decays", _FLAT, "const bool decayed = (flag & DECAYED) != 0u;", "const bool decayed = false;"),
    ("rate of the next step", _FLAT, "t - 1 - schedule[0]", "t - schedule[0]"),
    ("rate of the whole training", _FLAT, "t - 1 - schedule[0]", "t - 1"),
    ("rate behind the table", _FLAT, "entry < last ? entry : last", "entry"),
    ("rate before the table", _FLAT, "rates[entry < 0 ? 0 : entry < last", "rates[entry < last"),
    ("wrong flag", _FLAT, "flags[first / SPEC_PER_FLAG]", "flags[first / (2 * SPEC_PER_FLAG)]"),
    ("removed barrier before the count", _FLAT, "  __syncthreads();  // all have read\n", ""),
    ("steps not counted", _FLAT, "number = steps[own] + 1;", "number = steps[own];"),
    ("only a block's first count", _FLAT, "threadIdx.x < TUNE_WIDTH && mine", "threadIdx.x < 1 && mine"),
    ("dropped tail guard of the counts", _FLAT, " && mine * SPEC_PER_COUNT < count)", ")"),
    ("another block's count", _FLAT, "own = (int)blockIdx.x * TUNE_WIDTH", "own = (int)blockIdx.x"),
    ("skipped last element", _FLAT, "i < count; ++i) step(i", "i < count - 1; ++i) step(i"),
    ("dropped tail guard", _FLAT, "if (first + TUNE_WIDTH <= count) {", "if (true) {"),
]
