"""ConvPool2dSpec: its shapes are those of its parts, and what is too large for one block is refused."""

from __future__ import annotations

from typing import Any

import pytest
from cases.conv_pool2d import CASES

from gpucnn.specs import Conv2dSpec, ConvPool2dSpec, Pool2dSpec


@pytest.mark.parametrize("case", CASES)
def test_a_block_is_a_convolution_and_a_pooling(case: str) -> None:
    spec = CASES[case]("float32")
    (top, bottom, left, right) = spec.pads
    whole = Conv2dSpec.of(
        spec.x_shape, spec.weight_shape, "float32", padding=((top, bottom), (left, right)), bias=spec.bias,
        activation="relu",
    )  # fmt: skip
    assert spec.convolution == whole
    assert spec.pool == Pool2dSpec.of("max", whole.y_shape, spec.window, "float32")
    assert spec.y_shape == spec.pool.y_shape
    assert spec.batchless() == ConvPool2dSpec(**{**vars(spec), "n": 0})


def test_sizes_of_lenet() -> None:
    first, second = (CASES[f"lenet_block_{i}"]("float32") for i in (1, 2))
    assert first.y_shape == (2, 14, 14, 6) and second.y_shape == (3, 5, 5, 16)
    assert first.flops == 2 * 2 * 28 * 28 * 6 * 25 and first.bytes == 4 * (2 * 784 + 150 + 2 * 1176) + 2 * 1176
    assert [second.terms(f"conv_pool2d_{end}") for end in ("forward", "backward_input", "backward_weight")] == [
        150, 400, 75,
    ]  # fmt: skip
    assert first.worthwhile and second.worthwhile
    macros = first.macros()
    assert (macros["SPEC_P"], macros["SPEC_POOLED_P"], macros["SPEC_POOL_S"], macros["SPEC_ACTIVATION"]) == (
        28,
        14,
        2,
        1,
    )


def of(
    x: tuple[int, ...] = (2, 9, 9, 4), weight: tuple[int, ...] = (8, 3, 3, 4), window: Any = 2, **options: Any
) -> ConvPool2dSpec:
    return ConvPool2dSpec.of(x, weight, window, "float32", **options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"window": (5, 4)},
            r"window \(5, 4\) are too large to fuse: the window's pixels are 20, at most 16; call conv2d",
        ),
        ({"x": (1, 9, 32, 1), "weight": (1, 1, 17, 1)}, "the filter's columns are 17, at most 16"),
        ({"x": (1, 9, 9, 64), "weight": (8, 3, 3, 64)}, r"R\*S\*C are 576, at most 512"),
        ({"weight": (228, 3, 3, 4)}, r"R\*S\*K are 2052, at most 2048"),
        ({"x": (1, 9, 9, 512), "weight": (8, 1, 1, 512), "window": 3}, "that one output sees are 4608, at most 2048"),
        ({"x": (1, 2, 2, 4)}, "^conv2d: height of the output would be"),
        ({"x": (1, 3, 3, 4)}, "^max pooling: height of the output would be"),
        ({"window": 0}, "^max pooling: window must be an integer from 1"),
        ({"padding": -1}, "^conv2d: padding must be"),
        ({"weight": (8, 3, 3, 5)}, "^conv2d: x has 4 channels and weight 8 filters of 5 channels"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of(**arguments)


def test_many_channels_or_filters_are_left_to_matrix_products() -> None:
    assert of().worthwhile
    assert not of(weight=(65, 3, 3, 4)).worthwhile
    assert of(x=(2, 9, 9, 32), weight=(32, 3, 3, 32)).worthwhile
    assert not of(x=(2, 9, 9, 33), weight=(8, 3, 3, 33)).worthwhile
    assert not of(x=(2, 9, 9, 32), weight=(33, 3, 3, 32)).worthwhile
