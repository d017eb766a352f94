"""Shapes of the element-wise operations. Counts stand around one, a warp, a block, and a block of every pack width."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import ActivationSpec, ArraySpec, BinarySpec, CastSpec, ScalarSpec

COUNTS = (1, 2, 3, 31, 32, 33, 255, 256, 257, 511, 513, 1023, 1025, 2047, 2049, 10007)
ACTIVATIONS = ("linear", "relu", "leaky_relu", "sigmoid", "tanh", "elu", "softplus", "gelu", "silu")


def _activation(kind: str, count: int, slope: float = 0.01) -> Callable[[str], ActivationSpec]:
    return lambda dtype: ActivationSpec(kind, count, dtype, slope)


ACTIVATION = {
    **{f"{kind}_1027": _activation(kind, 1027) for kind in ACTIVATIONS},
    **{f"relu_{count}": _activation("relu", count) for count in COUNTS},
    "leaky_relu_steep": _activation("leaky_relu", 300, 0.3),
    "leaky_relu_flat": _activation("leaky_relu", 300, 0.0),
    "elu_one": _activation("elu", 300, 1.0),
}

_SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "scalars": ((), ()),
    "one": ((1, 1), (1,)),
    "scalar_left": ((), (7,)),
    "scalar_right": ((257,), ()),
    "bias": ((6, 5, 8), (8,)),
    "bias_odd": ((6, 5, 7), (7,)),
    "bias_left": ((16,), (33, 16)),
    "column": ((33, 64), (33, 1)),
    "column_odd": ((5, 3), (5, 1)),
    "outer_product": ((3, 1), (1, 4)),
    "outer_product_wide": ((40, 1), (1, 24)),
    "both_repeat": ((4, 1, 8), (1, 3, 8)),
    "checkered": ((2, 1, 3, 1), (1, 4, 1, 5)),
    "checkered_wide": ((2, 1, 3, 16), (1, 4, 1, 16)),
    "middle": ((3, 1, 8), (3, 5, 8)),
    "merging": ((2, 3, 4, 5), (2, 3, 1, 1)),
}


def _binary(
    kind: str, a: tuple[int, ...], b: tuple[int, ...], activation: str = "linear"
) -> Callable[[str], BinarySpec]:
    return lambda dtype: BinarySpec(kind, a, b, dtype, activation)


_KINDS = ("add", "subtract", "multiply", "divide")
BINARY = {
    **{f"{kind}_same": _binary(kind, (4, 67), (4, 67)) for kind in _KINDS},
    **{
        f"same_{count}": _binary(_KINDS[i % 4], (count,), (count,))
        for i, count in enumerate((1, 255, 256, 257, 1025, 2049))
    },
    **{name: _binary(_KINDS[i % 4], a, b) for i, (name, (a, b)) in enumerate(_SHAPES.items())},
    "add_relu": _binary("add", (4, 67), (4, 67), "relu"),
    "add_elu_column": _binary("add", (33, 64), (33, 1), "elu"),
}

VALUES = {"add": 1.5, "multiply": -0.75, "subtract_from": 1.0, "divide_into": 2.0, "power": 3.0}


def _scalar(kind: str, count: int) -> Callable[[str], ScalarSpec]:
    return lambda dtype: ScalarSpec(kind, count, dtype)


SCALAR = {
    **{f"{kind}_1027": _scalar(kind, 1027) for kind in VALUES},
    **{f"multiply_{count}": _scalar("multiply", count) for count in (1, 33, 256, 2049)},
}

SOURCES = ("uint8", "int32", "float32", "float64", "float16", "bfloat16")


def _cast(source: str, count: int) -> Callable[[str], CastSpec]:
    return lambda dtype: CastSpec(source, count, dtype)


CAST = {
    **{f"{source}_1027": _cast(source, 1027) for source in SOURCES},
    **{f"uint8_{count}": _cast("uint8", count) for count in (1, 3, 255, 4096)},
}


def _array(count: int) -> Callable[[str], ArraySpec]:
    return lambda dtype: ArraySpec(count, dtype)


ARRAY = {f"array_{count}": _array(count) for count in (1, 3, 33, 255, 257, 1025, 2047, 2049, 4097)}
