"""Defects of kernels/batch_norm*.cu, for test_batch_norm.py: (name, file, original text, replacement)."""

from __future__ import annotations

_SHARED, _FORWARD, _BACKWARD = "batch_norm.cuh", "batch_norm_forward.cu", "batch_norm_backward.cu"

DEFECTS = [
    (
        "removed barrier between two sums",
        _SHARED,
        "  __syncthreads();  // an earlier sum has been read\n",
        "",
    ),
    (
        "removed barrier before the tree",
        _SHARED,
        "  partial[here] = value;\n  __syncthreads();\n",
        "  partial[here] = value;\n",
    ),
    ("half of the tree", _SHARED, "half = (int)blockDim.y / 2", "half = (int)blockDim.y / 4"),
    ("skipped last element", _SHARED, "row < end;", "row + 1 < end;"),
    ("swapped strides", _SHARED, "(long long)row * channels + channel", "(long long)channel * channels + row"),
    (
        "dropped tail guard of the last chunk",
        _SHARED,
        "end = rows - begin < rows_of_a_chunk() ? rows : begin + rows_of_a_chunk();",
        "end = begin + rows_of_a_chunk();",
    ),
    ("dropped tail guard of the channels", _SHARED, "inside = channel < channels;", "inside = true;"),
    ("epsilon forgotten", _SHARED, "square_root(variance + epsilon)", "square_root(variance)"),
    (
        "squares around zero",
        _FORWARD,
        "const SPEC_ACC away = to_acc(x[i]) - mean;",
        "const SPEC_ACC away = to_acc(x[i]);",
    ),
    (
        "every chunk counts alike",
        _FORWARD,
        "sum = multiply_add(SPEC_ACC(count), workspace[2LL * chunk * channels + channel], sum);",
        "sum = multiply_add(SPEC_ACC(each), workspace[2LL * chunk * channels + channel], sum);",
    ),
    (
        "lost split of the two-stage sum",
        _FORWARD,
        "squares += multiply_add(SPEC_ACC(count) * away, away, place[channels]);",
        "squares += place[channels];",
    ),
    (
        "unbiased variance",
        _FORWARD,
        "column_sum<MAX_THREADS>(squares) / SPEC_ACC(rows)",
        "column_sum<MAX_THREADS>(squares) / SPEC_ACC(rows - 1)",
    ),
    (
        "moving average the wrong way round",
        _FORWARD,
        "rate * (found.mean - moving_mean[channel])",
        "(SPEC_ACC(1) - rate) * (found.mean - moving_mean[channel])",
    ),
    (
        "moving variance forgets",
        _FORWARD,
        "moving_variance[channel] += rate * (found.variance - moving_variance[channel]);",
        "moving_variance[channel] = found.variance;",
    ),
    ("scale forgotten", _FORWARD, "epsilon) * (gamma ? gamma[own.channel] : SPEC_ACC(1))", "epsilon)"),
    ("shift forgotten", _FORWARD, "shift = beta ? beta[own.channel] : SPEC_ACC(0)", "shift = 0"),
    ("mean not subtracted in dgamma", _BACKWARD, "to_acc(x[i]) - centre, scale)", "to_acc(x[i]), scale)"),
    ("dgamma not normalised", _BACKWARD, "scale * inverse_deviation(variance[own.channel], epsilon)", "scale"),
    (
        "lost last chunk of the gradient",
        _BACKWARD,
        "inside && chunk < chunks; chunk",
        "inside && chunk < chunks - (chunks > 1); chunk",
    ),
    (
        "gradients swapped",
        _BACKWARD,
        "dgamma[channel] = scale;\n  dbeta[channel] = shift;",
        "dgamma[channel] = shift;\n  dbeta[channel] = scale;",
    ),
    ("gradient without that of the mean", _BACKWARD, "to_acc(dy[i]) - shift - ", "to_acc(dy[i]) - "),
    (
        "gradient without that of the variance",
        _BACKWARD,
        "const SPEC_ACC through = to_acc(dy[i]) - shift - (to_acc(x[i]) - centre) * scale;",
        "const SPEC_ACC through = to_acc(dy[i]) - shift;",
    ),
    (
        "gradient without the scale",
        _BACKWARD,
        "factor = inverse * (gamma ? gamma[own.channel] : SPEC_ACC(1))",
        "factor = inverse",
    ),
    ("statistics never constant", _BACKWARD, "if (BATCH_STATISTICS) {", "if (true) {"),
]
