"""Defects of the element-wise kernels, for test_elementwise.py: (name, file, original text, replacement)."""

from __future__ import annotations

_PACK, _ACTIVATION, _BINARY = "pack.cuh", "activation.cuh", "binary.cu"

DEFECTS = [
    (
        "dropped tail guard of one array",
        _PACK,
        "  if (first + WIDTH <= count) {\n    const Pack<X, WIDTH> in",
        "  if (true) {\n    const Pack<X, WIDTH> in",
    ),
    (
        "dropped tail guard of two arrays",
        _PACK,
        "  if (first + WIDTH <= count) {\n    const Pack<A, WIDTH> left",
        "  if (true) {\n    const Pack<A, WIDTH> left",
    ),
    (
        "skipped last element of one array",
        _PACK,
        "i < count; ++i) y[i] = f(x[i]);",
        "i < count - 1; ++i) y[i] = f(x[i]);",
    ),
    (
        "skipped last element of two arrays",
        _PACK,
        "i < count; ++i) y[i] = f(a[i],",
        "i < count - 1; ++i) y[i] = f(a[i],",
    ),
    ("relu stops NaN", _ACTIVATION, "return x <= A(0) ? A(0) : x;", "return x > A(0) ? x : A(0);"),
    ("relu gradient stops at NaN", _ACTIVATION, "return y <= A(0) ? A(0) : dy;", "return y > A(0) ? dy : A(0);"),
    ("slope forgotten", _ACTIVATION, "return x < A(0) ? slope * x : x;", "return x < A(0) ? A(0.01) * x : x;"),
    (
        "slope forgotten in the gradient",
        _ACTIVATION,
        "return y <= A(0) ? slope * dy : dy;",
        "return y <= A(0) ? A(0.01) * dy : dy;",
    ),
    ("sigmoid of the absolute value", _ACTIVATION, "(x < A(0) ? decayed : A(1))", "A(1)"),
    ("sigmoid gradient unfinished", _ACTIVATION, "dy * y * (A(1) - y)", "dy * y"),
    ("tanh gradient without the square", _ACTIVATION, "dy * (A(1) - y * y)", "dy * (A(1) - y)"),
    ("elu without its alpha", _ACTIVATION, "slope * exponential_minus_1(x)", "exponential_minus_1(x)"),
    ("elu gradient without its alpha", _ACTIVATION, "dy * (y + slope)", "dy * (y + A(1))"),
    (
        "softplus that overflows",
        _ACTIVATION,
        "return x <= A(0) ? rest : x + rest;",
        "return logarithm_of_1_plus(exponential(x));",
    ),
    (
        "softplus gradient of the wrong sign",
        _ACTIVATION,
        "dy * -exponential_minus_1(-y)",
        "dy * exponential_minus_1(y)",
    ),
    (
        "gelu by tanh",
        _ACTIVATION,
        "return A(0.5) * complementary_error(x * A(-0.70710678118654752440));",
        "return A(0.5) * (A(1) + hyperbolic_tangent(A(0.7978845608) * (x + A(0.044715) * x * x * x)));",
    ),
    (
        "gelu gradient without the density",
        _ACTIVATION,
        "dy * (normal_distribution(x) + x * density)",
        "dy * normal_distribution(x)",
    ),
    ("silu gradient unfinished", _ACTIVATION, "dy * (s * (A(1) + x * (A(1) - s)))", "dy * s"),
    ("swapped strides", _BINARY, "i1 * b_stride1 + i2 * b_stride2", "i1 * b_stride2 + i2 * b_stride1"),
    ("stride of the outer axis forgotten", _BINARY, "a + (i0 * a_stride0 + ", "a + ("),
    (
        "broadcast forgotten within a pack",
        _BINARY,
        "  if (stride == 1) return load_pack<WIDTH>(x);\n",
        "  return load_pack<WIDTH>(x);\n",
    ),
    (
        "no activation of a sum",
        _BINARY,
        "from_acc<SPEC_T>(activate(KIND == 0 ? a + b",
        "from_acc<SPEC_T>((KIND == 0 ? a + b",
    ),
    ("dropped tail guard of binary operations", _BINARY, "  if (first + WIDTH <= count) {\n", "  if (true) {\n"),
    ("operands swapped", _BINARY, "KIND == 1 ? a - b", "KIND == 1 ? b - a"),
    ("value and element swapped", "scalar.cu", "return value - x;", "return x - value;"),
    (
        "double rounding",
        "conversion.cuh",
        "static float16 of(double value) { return of(rounded_to_odd(value)); }",
        "static float16 of(double value) { return of((float)value); }",
    ),
    (
        "integers through float",
        "conversion.cuh",
        "double widened(int x) { return (double)x; }",
        "float widened(int x) { return (float)x; }",
    ),
    ("accumulation overwrites", "accumulate.cu", "to_acc(t) + to_acc(s)", "to_acc(s)"),
    ("skipped last element of fill", "fill.cu", "i < count; ++i)", "i < count - 1; ++i)"),
]
