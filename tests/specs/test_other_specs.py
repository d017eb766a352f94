"""The other Specs: what they share, padding, products, element-wise operations, rows, optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpucnn import specs
from gpucnn.specs import (
    ActivationSpec,
    AdamSpec,
    ArgmaxSpec,
    ArraySpec,
    AugmentSpec,
    BatchNormGradientSpec,
    BatchNormSpec,
    BinaryCrossEntropySpec,
    BinarySpec,
    ClipSpec,
    ConcatenateSpec,
    ConfusionSpec,
    Conv2dSpec,
    ConvPool2dSpec,
    CrossEntropySpec,
    DropoutSpec,
    GatherSpec,
    LinearCrossEntropySpec,
    LinearSpec,
    LossScaleSpec,
    MatmulSpec,
    MetricsSpec,
    Pad2dSpec,
    ReduceSpec,
    ScalarSpec,
    ScaledCastSpec,
    SgdSpec,
    SoftmaxSpec,
    Spec,
    SquaredNormSpec,
)
from gpucnn.specs.optimizer import elements_per_flag

SOME: list[Callable[[str], Spec]] = [
    lambda t: ActivationSpec("leaky_relu", 7, t, 0.5),
    lambda t: AdamSpec(7, True, t),
    lambda t: ArgmaxSpec(7, 3, t),
    lambda t: ArraySpec(7, t),
    lambda t: AugmentSpec.window((2, 5, 4, 1), (4, 4), (0, 2), (-1, 3), t, flips=(True, False), value=0.5),
    lambda t: BatchNormSpec(7, 3, t, 0.5, 0.25),
    lambda t: BatchNormGradientSpec(7, 3, True, True, True, t, 0.5),
    lambda t: BinaryCrossEntropySpec(7, "mean", t),
    lambda t: BinarySpec("divide", (2, 3, 1), (4,), t, "relu"),
    lambda t: ClipSpec("norm", 7, 3, t),
    lambda t: ConcatenateSpec(7, (3, 4), t),
    lambda t: ConfusionSpec(7, 3, t),
    lambda t: Conv2dSpec.of((2, 5, 5, 1), (1, 3, 3, 1), t),
    lambda t: ConvPool2dSpec.of((2, 5, 5, 1), (1, 3, 3, 1), 2, t),
    lambda t: CrossEntropySpec(7, 3, True, 0.5, "sum", t),
    lambda t: DropoutSpec(0.5, 3, 7, t),
    lambda t: GatherSpec(7, 3, 9, 9, "uint8", True, t),
    lambda t: LinearCrossEntropySpec(7, 3, 4, True, t),
    lambda t: LinearSpec(7, 3, 4, True, True, "relu", 0.5, t),
    lambda t: LossScaleSpec(7, 100, t),
    lambda t: MatmulSpec.of((2, 3), (3, 4), t, bias=True),
    lambda t: MetricsSpec(7, 3, t, top=2),
    lambda t: Pad2dSpec.of((2, 5, 5, 1), (1, 0, 2, 0), t, value=1.5),
    lambda t: ReduceSpec("mean", 2, 3, 4, t),
    lambda t: ScalarSpec("power", 7, t),
    lambda t: ScaledCastSpec("float32", 7, t),
    lambda t: SgdSpec(7, True, False, t),
    lambda t: SoftmaxSpec(2, 3, True, t),
    lambda t: SquaredNormSpec(7, 3, t),
]


# -- what all share ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", SOME, ids=lambda make: type(make("float32")).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_run_time_sizes_stay_out_of_the_macros(make: Callable[[str], Any], dtype: str) -> None:
    """One module serves all batch sizes: macros are those of the Spec without them, and so is the key."""
    spec = make(dtype)
    assert spec.macros() == spec.batchless().macros()
    assert spec.batchless() == spec.batchless().batchless() and hash(spec.batchless()) is not None
    assert all(getattr(spec, name) is not None for name in type(spec).runtime)


@pytest.mark.parametrize("make", SOME, ids=lambda make: type(make("float32")).__name__)
def test_specs_are_frozen_values(make: Callable[[str], Any]) -> None:
    assert make("float32") == make("float32") != make("float64")
    assert len({make("float32"), make("float32")}) == 1
    with pytest.raises(AttributeError, match="cannot assign to field"):
        make("float32").dtype = "float64"


def test_every_public_spec_is_covered_here() -> None:
    named = {getattr(specs, name) for name in specs.__all__ if name.endswith("Spec")}
    assert {type(make("float32")) for make in SOME} | {specs.Pool2dSpec, specs.CastSpec, Spec} == named


@pytest.mark.parametrize(
    "dtype, terms, expected",
    [
        ("float32", 1, 4 * 2.0**-23),
        ("float32", 100, 40 * 2.0**-23),
        ("float32", 0, 4 * 2.0**-23),
        ("float64", 10000, 400 * 2.0**-52),
        ("float16", 100, 4 * 2.0**-10),  # rounding the result outweighs the sum in float32
        ("bfloat16", 100, 4 * 2.0**-7),
        ("float16", 10**8, 40000 * 2.0**-23),
    ],
)
def test_tolerance_is_four_epsilon_root_terms(dtype: str, terms: int, expected: float) -> None:
    assert ArraySpec(1, dtype).tolerance(terms) == pytest.approx(expected, rel=1e-12)


# -- padding ----------------------------------------------------------------------------------------------------------
def pad(pads: tuple[int, int, int, int], mode: str, x: tuple[int, ...] = (2, 4, 5, 3)) -> Pad2dSpec:
    return Pad2dSpec.of(x, pads, "float32", mode=mode)


@pytest.mark.parametrize(
    "pads, mode",
    [
        ((9, 0, 7, 1), "constant"),
        ((3, 3, 4, 4), "reflect"),
        ((9, 9, 9, 9), "replicate"),
        ((4, 4, 5, 5), "circular"),
    ],
)
def test_padding_sizes(pads: tuple[int, int, int, int], mode: str) -> None:
    found = pad(pads, mode)
    assert found.y_shape == np.pad(np.zeros((2, 4, 5, 3)), ((0, 0), pads[:2], pads[2:], (0, 0))).shape


@pytest.mark.parametrize(
    "pads, mode, x, message",
    [
        ((4, 0, 0, 0), "reflect", (2, 4, 5, 3), "'reflect' allows at most 3 pixels for height 4, got 4"),
        ((0, 0, 0, 6), "circular", (2, 4, 5, 3), "'circular' allows at most 5 pixels for width 5, got 6"),
        (
            (0, 0, 0, 1),
            "wrap",
            (2, 4, 5, 3),
            "unknown padding_mode 'wrap'; known: constant, reflect",
        ),
        ((0, 0, 0, 1), "constant", (4, 5, 3), r"padding: x must be \(N, H, W, C\)"),
        ((40000, 40000, 40000, 0), "constant", (2, 4, 5, 3), "too large: more than 2147483647 elements an image"),
    ],
)
def test_padding_refusals(pads: Any, mode: str, x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pad(pads, mode, x)


def test_the_value_is_an_argument_and_no_macro() -> None:
    one, two = (Pad2dSpec.of((1, 2, 2, 1), (1, 1, 1, 1), "float32", value=v) for v in (1.0, 2.0))
    assert one.macros() == two.macros() and one.batchless() == two.batchless() and one != two


# -- products ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_take_the_sizes_of_numpy(transpose_a: bool, transpose_b: bool) -> None:
    a, b = np.zeros((2, 3)), np.zeros((3, 5))
    stored = (a.T if transpose_a else a), (b.T if transpose_b else b)
    found = MatmulSpec.of(stored[0].shape, stored[1].shape, "float64", transpose_a=transpose_a, transpose_b=transpose_b)
    assert (found.m, found.n, found.k, found.y_shape) == (2, 5, 3, (a @ b).shape)
    assert (found.flops, found.bytes, found.terms("matmul_forward")) == (2 * 2 * 5 * 3, 8 * (6 + 15 + 10), 3)


@pytest.mark.parametrize(
    "a, b, options, message",
    [
        ((2, 3), (4, 5), {}, r"^matmul: inner sizes differ: 3 of shape \(2, 3\) and 4 of shape \(4, 5\)$"),
        ((2, 3), (4, 5), {"transpose_b": True, "what": "linear"}, r"^linear: inner sizes differ: 3 .* and 5 of"),
        ((3,), (3, 5), {}, r"both arguments must have 2 axes, got shapes \(3,\) and \(3, 5\)"),
        ((1, 2, 3), (3, 5), {}, "both arguments must have 2 axes"),
        ((60000, 3), (3, 60000), {}, "too large: more than 2147483647 elements"),
        ((2, 3), (3, 5), {"activation": "silu"}, "silu cannot be fused"),
        ((2, 3), (3, 5), {"activation": "mish"}, "unknown activation 'mish'"),
        (
            (2, 3),
            (3, 5),
            {"precision": "half", "what": "linear"},
            "linear: precision must be one of float32, tf32, got",
        ),
    ],
)
def test_product_refusals(a: Any, b: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatmulSpec.of(a, b, "float32", **options)


# -- element-wise -----------------------------------------------------------------------------------------------------
SHAPES = [
    ((), ()),
    ((3,), ()),
    ((), (3,)),
    ((3,), (1,)),
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((2, 1), (1, 3)),
    ((1, 1), (1, 1)),
    ((2, 3, 4), (3, 1)),
    ((2, 1, 4), (3, 1)),
    ((4, 1, 3, 1), (1, 5, 1, 2)),
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((0, 3), (3,)),
    ((2, 0), (2, 1)),
    ((5, 4, 3, 2, 1), (2, 1)),
    ((1, 6, 1, 6, 1), (6, 1, 6, 1)),
    ((7, 1), (1, 1, 5)),
]


@pytest.mark.parametrize("a_shape, b_shape", SHAPES)
def test_merged_axes_walk_as_broadcasting_does(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    """Reading both through (extent, strides) gives NumPy's broadcast arrays."""
    spec = BinarySpec("add", a_shape, b_shape, "float32")
    y_shape = np.broadcast_shapes(a_shape, b_shape)
    assert spec.y_shape == y_shape
    axes = spec.axes()
    assert math.prod(e for e, _, _ in axes) == math.prod(y_shape) and len(axes) <= 4
    for which, shape in enumerate((a_shape, b_shape)):
        flat = np.arange(math.prod(shape))
        grid = np.indices([e for e, _, _ in axes]).reshape(len(axes), -1)
        offsets = sum((grid[i] * axes[i][which + 1] for i in range(len(axes))), np.zeros(grid.shape[1], int))
        expected = np.broadcast_to(flat.reshape(shape), y_shape).reshape(-1)
        np.testing.assert_array_equal(flat[offsets] if flat.size else offsets, expected)


def test_the_key_of_broadcasting_is_its_pattern() -> None:
    def key(a: tuple[int, ...], b: tuple[int, ...]) -> BinarySpec:
        return BinarySpec("add", a, b, "float32").batchless()

    assert key((9, 4, 5), (9, 4, 5)) == key((7,), (7,)) and key((9, 4, 5), (5,)) == key((1, 3, 2), (2,))
    assert len({key((6, 5), (6, 5)), key((6, 5), (5,)), key((6, 5), (6, 1)), key((6, 5), ()), key((6, 1), (1, 5))}) == 5


def test_adjacent_axes_merge() -> None:
    assert BinarySpec("add", (2, 3, 4, 5), (2, 3, 4, 5), "float32").axes() == ((120, 1, 1),)
    assert BinarySpec("add", (2, 3, 4, 5), (5,), "float32").axes() == ((24, 5, 0), (5, 1, 1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BinarySpec("add", (2, 3), (2,), "float32"), r"^add: shapes \(2, 3\) and \(2,\) do not broadcast$"),
        (lambda: BinarySpec("add", (2,), (2,), "float32", "gelu"), "^add: gelu cannot be fused; fused: linear, relu"),
        (lambda: BinarySpec("modulo", (2,), (2,), "float32"), "unknown operation 'modulo'; known: add, subtract"),
        (lambda: BinarySpec("add", (2, 1, 2, 1, 2), (1, 2, 1, 2, 1), "float32"), "alternate more than 4 times"),
        (lambda: ScalarSpec("minus", 3, "float32"), "unknown operation 'minus'; known: add, multiply"),
        (lambda: ActivationSpec("swish", 3, "float32"), "unknown activation 'swish'"),
        *((lambda r=r: DropoutSpec(r, 0, 3, "float32"), "rate must be at least 0 and below 1, got")
          for r in (-0.1, 1.0, math.nan, math.inf)),
        (lambda: ReduceSpec("max", 1, 1, 1, "float32"), "unknown reduction 'max'; known: sum, mean"),
        (lambda: ReduceSpec("sum", 2**16, 2**16, 1, "float32"), "too large"),
        (lambda: SoftmaxSpec(2, 0, False, "float32"), "last axis must have at least one element, got 0"),
        (lambda: CrossEntropySpec(2, 3, False, 0.0, "avg", "float32"), "must be one of none, sum, mean, got 'avg'"),
        *((lambda e=e: CrossEntropySpec(2, 3, False, e, "sum", "float32"), "label_smoothing must be from 0 to 1, got")
          for e in (-0.1, 1.1, math.nan)),
        (lambda: CrossEntropySpec(2, 0, False, 0.0, "sum", "float32"), "logits must have at least one class, got 0"),
        (lambda: BinaryCrossEntropySpec(2, "avg", "float32"), "reduction must be one of none, sum, mean, got 'avg'"),
    ],
)  # fmt: skip
def test_refusals(make: Callable[[], Spec], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999999])
def test_dropout_threshold_is_the_rate_in_32_bits(rate: float) -> None:
    found = DropoutSpec(rate, 0, 3, "float32")
    assert abs(found.threshold / 2**32 - rate) <= 2.0**-33 and found.scale == pytest.approx(1 / (1 - rate))
    assert DropoutSpec(1 - 2.0**-53, 0, 3, "float32").threshold == 2**32 - 1


def test_activations_know_what_their_gradient_needs() -> None:
    saved = {kind for kind in specs.ACTIVATIONS if ActivationSpec(kind, 1, "float32").saves_output}
    assert saved == set(specs.FUSED_ACTIVATIONS) == set(specs.ACTIVATIONS) - {"gelu", "silu"}
    for slope in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^elu: the slope \(elu: alpha\) must be finite and at least 0, got"):
            ActivationSpec("elu", 1, "float32", slope)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BatchNormSpec(3, 0, "float32"), "^batch_norm: x must have at least one channel, got 0$"),
        (lambda: BatchNormSpec(2**31, 1, "float32"), "^batch_norm: 2147483648 rows of 1 channels are too many$"),
        (lambda: BatchNormSpec(3, 1, "float32", -1.0), "^batch_norm: epsilon must be finite and at least 0, got -1.0$"),
        (lambda: BatchNormSpec(3, 1, "float32", 0.0, 1.5), "^batch_norm: momentum must be from 0 to 1, got 1.5$"),
        (
            lambda: ConcatenateSpec(3, (), "float32"),
            r"^concatenate: 1 to 4 parts of at least one element a row, got \(\)",
        ),
        (lambda: ConcatenateSpec(3, (1, 0), "float32"), r"^concatenate: 1 to 4 parts of at least one element a row"),
        (lambda: ConcatenateSpec(3, (2**31, 1), "float32"), "^concatenate: rows of 2147483649 elements are more than"),
        (lambda: BatchNormGradientSpec(3, 1, True, False, False, "float32"), "^batch_norm: a backward pass needs"),
        (lambda: BatchNormGradientSpec(3, 1, True, True, True, "float32", math.nan), "^batch_norm: epsilon must be"),
    ],
)
def test_refusals_along_channels(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# -- rows and optimizers ----------------------------------------------------------------------------------------------
def test_reductions_factor() -> None:
    assert ReduceSpec("sum", 2, 5, 3, "float32").factor == 1.0 and ReduceSpec("mean", 2, 5, 3, "float32").factor == 0.2
    assert ReduceSpec("sum", 2, 0, 3, "float32").factor == 1.0 and math.isnan(
        ReduceSpec("mean", 2, 0, 3, "float32").factor
    )


@pytest.mark.parametrize("dtype, count", [("float32", 64), ("float64", 32), ("float16", 128), ("bfloat16", 128)])
def test_one_flag_stands_for_256_bytes(dtype: str, count: int) -> None:
    assert elements_per_flag(dtype) == count == SgdSpec(1, True, False, dtype).macros()["SPEC_PER_FLAG"]
