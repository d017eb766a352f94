"""Conv2dSpec: sizes, every form of padding, every refusal, cost and macros."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gpucnn.specs import Conv2dSpec


def spec(x: tuple[int, ...] = (2, 9, 8, 6), weight: tuple[int, ...] = (4, 3, 2, 6), **options: Any) -> Conv2dSpec:
    return Conv2dSpec.of(x, weight, options.pop("dtype", "float32"), **options)


@pytest.mark.parametrize(
    "n, k, options, expected",
    [
        (7, 3, {"stride": 1}, 5),
        (7, 3, {"stride": 2}, 3),
        (7, 3, {"padding": 1}, 7),
        (7, 3, {"stride": 3}, 2),  # (7 - 3)/3 does not divide: floor
        (28, 3, {}, 26),
        (4, 3, {}, 2),
        (4, 3, {"padding": 1}, 4),
        (32, 5, {}, 28),  # SEED ERROR 002: the material says 26
        (28, 5, {}, 24),  # SEED ERROR 002: and then 21
    ],
)
def test_sizes_of_the_worked_examples(n: int, k: int, options: dict[str, Any], expected: int) -> None:
    """WORKED_EXAMPLES.md A2.2."""
    found = spec((1, n, n, 1), (1, k, k, 1), **options)
    assert found.y_shape == (1, expected, expected, 1)


def test_parameters_of_the_worked_example() -> None:
    """A2.2: six filters 5x5x3, then ten 5x5x6, with biases."""
    first, second = spec((1, 32, 32, 3), (6, 5, 5, 3)), spec((1, 28, 28, 6), (10, 5, 5, 6))
    assert [math.prod(s.weight_shape) + s.k for s in (first, second)] == [456, 1510]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("pads", [(0, 0), (1, 0), (0, 2), (3, 1)])
def test_size_counts_the_positions(stride: int, dilation: int, pads: tuple[int, int]) -> None:
    """By definition: the starts of all windows that fit."""
    options: dict[str, Any] = {"stride": (stride, 1), "dilation": (dilation, 1), "padding": (pads, (0, 0))}
    for n in range(1, 12):
        for k in range(1, 5):
            span = dilation * (k - 1) + 1
            expected = len(range(0, n + sum(pads) - span + 1, stride))
            if expected > 0:
                assert spec((1, n, 5, 1), (1, k, 1, 1), **options).p == expected
            else:
                with pytest.raises(ValueError, match="does not fit"):
                    spec((1, n, 5, 1), (1, k, 1, 1), **options)


@pytest.mark.parametrize(
    "padding, expected",
    [
        (0, (0, 0, 0, 0)),
        ("valid", (0, 0, 0, 0)),
        (2, (2, 2, 2, 2)),
        ((1, 2), (1, 1, 2, 2)),
        ([1, 2], (1, 1, 2, 2)),
        (((1, 2), (3, 4)), (1, 2, 3, 4)),
        ([[1, 2], [3, 4]], (1, 2, 3, 4)),
        (np.int64(2), (2, 2, 2, 2)),
    ],
)
def test_forms_of_padding(padding: Any, expected: tuple[int, ...]) -> None:
    assert spec(padding=padding).pads == expected


@pytest.mark.parametrize("n", range(1, 14))
@pytest.mark.parametrize("k", range(1, 6))
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_same_padding_gives_the_quotient_rounded_up_and_the_odd_pixel_at_the_end(n: int, k: int, stride: int) -> None:
    """TensorFlow's rule; nothing is padded that is not needed."""
    found = spec((1, n, n, 1), (1, k, k, 1), stride=stride, padding="same")
    top, bottom, left, right = found.pads
    assert found.p == found.q == math.ceil(n / stride)
    assert (top, bottom) == (left, right) and bottom - top in (0, 1)
    if top + bottom:
        assert (found.p - 1) * stride + k == n + top + bottom


def test_same_padding_with_dilation() -> None:
    assert spec((1, 9, 9, 1), (1, 3, 4, 1), dilation=(2, 3), padding="same").pads == (2, 2, 4, 5)


X, WEIGHT = (2, 9, 8, 6), (4, 3, 2, 6)
EMPTY = "at least one row, column and channel, got shape"
NOT_STRIDES = (0, -1, 1.0, 2.5, (1, 0), (1.0, 1), (1, 2, 3), "2", None, True, (1,), np.float32(1), np.array([1, 1]))
NOT_PADDINGS = (-1, (1, -1), ((0, -1), (0, 0)), 1.5, (1, 2, 3), "SAME", "full", None, ((1, 2), 3), np.array([1, 1]))


@pytest.mark.parametrize(
    "x, weight, options, message",
    [
        # S1
        ((2, 2, 8, 6), WEIGHT, {}, r"be floor\(\(2 \+ 0 \+ 0 - 1\*\(3-1\) - 1\)/1\) \+ 1 = 0; a window of 3 with"),
        ((2, 9, 1, 6), (4, 3, 4, 6), {"padding": ((0, 0), (1, 1))}, r"width of .* does not fit 1 \+ 2 pixels"),
        # S2
        *((X, WEIGHT, {"stride": s}, "^conv2d: stride must be an integer") for s in NOT_STRIDES),
        # S3
        *((X, WEIGHT, {"padding": p}, "^conv2d: padding must be an integer") for p in NOT_PADDINGS),
        # S4
        *((X, WEIGHT, {"dilation": d}, "^conv2d: dilation must be an integer") for d in (0, -1, 2**31, 1.0)),
        (X, WEIGHT, {"dilation": 2**31 - 1}, "a window of 3 with dilation 2147483647 does not fit"),
        # S5
        (X, (4, 3, 2, 5), {}, "x has 6 channels and weight 4 filters of 5 channels with groups=1"),
        (X, WEIGHT, {"groups": 2}, "x has 6 channels and weight 4 filters of 6 channels with groups=2"),
        (X, (4, 3, 2, 1), {"groups": 4}, "with groups=4; channels and filters must be multiples of groups"),
        (X, (4, 3, 2, 2), {"groups": 3}, "with groups=3; channels and filters must be multiples of groups"),
        *((X, WEIGHT, {"groups": g}, "^conv2d: groups must be an integer from 1") for g in (0, -2, 1.0, None)),
        # S7
        ((2, 0, 8, 6), WEIGHT, {}, EMPTY),
        ((2, 9, 8, 0), (4, 3, 2, 0), {}, EMPTY),
        (X, (0, 3, 2, 6), {}, "each at least 1, got shape"),
        (X, (4, 0, 2, 6), {}, "each at least 1, got shape"),
        # S9
        ((9, 8, 6), WEIGHT, {}, r"^conv2d: x must be \(N, H, W, C\), got shape \(9, 8, 6\)$"),
        ((1, 2, 9, 8, 6), WEIGHT, {}, r"^conv2d: x must be \(N, H, W, C\), got shape \(1, 2, 9, 8, 6\)$"),
        (X, (3, 2, 6), {}, r"^conv2d: weight must be \(K, R, S, C/groups\), each at least 1, got shape \(3, 2, 6\)$"),
        # S16
        ((1, 60000, 60000, 1), (4, 3, 2, 1), {}, "too large"),
        ((2**20, 64, 64, 1), (1, 1, 1, 1), {}, "too large"),
        ((1, 9, 8, 1), (1, 1, 1, 1), {"padding": 2**31 - 1}, "too large"),
        ((1, 9, 8, 1), (1, 1, 1, 1), {"padding": 2**16}, "too large"),
        # activations
        (X, WEIGHT, {"activation": "swish"}, "unknown activation 'swish'; known: linear, relu"),
        (X, WEIGHT, {"activation": "gelu"}, "gelu cannot be fused; fused: linear, relu"),
    ],
)
def test_s1_to_s9_refusals(x: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(x, weight, **options)


def test_s6_an_empty_batch_is_a_spec() -> None:
    found = spec((0, 9, 8, 6))
    assert found.y_shape == (0, 7, 7, 4) and found.flops == 0


def test_s8_windows_as_large_as_the_image_and_strides_beyond_it() -> None:
    assert spec((1, 3, 5, 2), (7, 3, 5, 2)).y_shape == (1, 1, 1, 7)
    assert spec((1, 3, 5, 2), (7, 1, 1, 2), stride=(9, 4)).y_shape == (1, 1, 2, 7)


def test_letters() -> None:
    found = spec((5, 11, 13, 6), (4, 3, 2, 3), groups=2, stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 3))
    assert (found.n, found.h, found.w, found.c, found.k, found.r, found.s) == (5, 11, 13, 6, 4, 3, 2)
    assert (found.p, found.q) == (5, 13)
    assert (found.x_shape, found.weight_shape, found.y_shape) == ((5, 11, 13, 6), (4, 3, 2, 3), (5, 5, 13, 4))


def test_cost_counts_every_product_and_every_element() -> None:
    found = spec((5, 11, 13, 6), (4, 3, 2, 3), groups=2, dtype="float16")
    products = sum(1 for _ in np.ndindex(5, found.p, found.q, 4, 3, 2, 3))
    assert found.flops == 2 * products
    assert found.bytes == 2 * (5 * 11 * 13 * 6 + 4 * 3 * 2 * 3 + 5 * found.p * found.q * 4)


def test_terms_are_the_lengths_of_the_sums() -> None:
    found = spec((5, 11, 13, 6), (4, 3, 2, 3), groups=2)
    assert found.terms("conv2d_forward") == 3 * 2 * 3
    assert found.terms("conv2d_backward_input") == 3 * 2 * 2
    assert found.terms("conv2d_backward_weight") == found.terms("conv2d_backward_bias") == 5 * found.p * found.q
    assert found.terms("conv2d_backward_operands") == max(5 * found.p * found.q, 3 * 2 * 2)


def test_macros_hold_every_size_but_the_batch() -> None:
    options: dict[str, Any] = {"groups": 2, "stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 3)}
    options |= {"flip": True, "bias": True, "activation": "leaky_relu", "slope": 0.25}
    found, other, none = (spec((n, 11, 13, 6), (4, 3, 2, 3), **options) for n in (5, 99, 0))
    macros = found.macros()
    assert macros == other.macros() == found.batchless().macros() and found.batchless() == none
    assert macros["SPEC_T"] == macros["SPEC_ACC"] == "float" and macros["SPEC_SLOPE"] == "0.25f"
    assert (macros["SPEC_PAD_TOP"], macros["SPEC_PAD_LEFT"], macros["SPEC_P"], macros["SPEC_Q"]) == (1, 2, 5, 13)
    assert macros["SPEC_FLIP"] is True and macros["SPEC_ACTIVATION"] == 2


@pytest.mark.parametrize(
    "dtype, acc, kernel, kernel_acc",
    [("float32", "float32", "float", "float"), ("float64", "float64", "double", "double"),
     ("float16", "float32", "float16", "float"), ("bfloat16", "float32", "bfloat16", "float")],
)  # fmt: skip
def test_types(dtype: str, acc: str, kernel: str, kernel_acc: str) -> None:
    found = spec(dtype=dtype)
    assert found.acc_dtype == acc
    assert (found.macros()["SPEC_T"], found.macros()["SPEC_ACC"]) == (kernel, kernel_acc)


def test_specs_are_values() -> None:
    assert spec(padding="same") == spec(padding=((1, 1), (0, 1))) and hash(spec(padding=1)) == hash(
        spec(padding=(1, 1))
    )
    with pytest.raises(AttributeError, match="cannot assign to field 'n'"):
        spec().n = 3


def test_precision_widens_the_tolerance() -> None:
    strict, rounded = spec(), spec(precision="tf32")
    assert strict.precision == "float32" and strict != rounded
    assert strict.tolerance(36) == 4 * 6 * 2.0**-23
    assert rounded.tolerance(36) == 4 * 2.0**-10, "each operand is rounded to 10 bits of fraction"


@pytest.mark.parametrize(("dtype", "precision", "message"), [
    ("float32", "fp32", "conv2d: precision must be one of float32, tf32, got 'fp32'"),
    ("float64", "tf32", "conv2d: precision tf32 is for float32 arrays, got float64"),
    ("bfloat16", "tf32", "conv2d: precision tf32 is for float32 arrays, got bfloat16"),
])  # fmt: skip
def test_precision_must_be_known_and_fit(dtype: str, precision: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(dtype=dtype, precision=precision)
