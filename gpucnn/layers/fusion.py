"""Layers of a chain that run as one: patterns of layers, and what they become.

- ZeroPadding2D, Conv2D or DepthwiseConv2D: the convolution pads, which saves a copy of the images.
- [ZeroPadding2D,] Conv2D, ReLU, MaxPool2D over windows side by side: one fused block, where it has few enough channels
  and filters (`ConvPool2dSpec`). ReLU is the convolution's activation, or a layer before or behind the pooling.
- ReLU, MaxPool2D: the pooling first. The largest of a window stays the largest, so that ReLU and its derivative have a
  window's pixels times fewer elements to deal with, and what stood before the pooling need not be kept for it.

A layer of a derived class matches nothing: what it computes is its own matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from gpucnn.autograd import Tensor
from gpucnn.functional import conv2d_relu_max_pool2d, relu
from gpucnn.layers.activations import Activation, ReLU
from gpucnn.layers.convolution import Conv2D, Convolution2D, DepthwiseConv2D
from gpucnn.layers.core import ZeroPadding2D
from gpucnn.layers.layer import Layer, Shape
from gpucnn.layers.pooling import MaxPool2D
from gpucnn.specs import ConvPool2dSpec
from gpucnn.specs.base import Pads, pads

_CONVOLUTIONS = (Conv2D, DepthwiseConv2D)


@dataclass(frozen=True)
class Fused:
    """The first `count` layers of a sequence as one function."""

    count: int
    run: Callable[[Tensor], Tensor]


def match(layers: Sequence[Layer], shape: Shape) -> Fused | None:
    """Return how a sequence of layers begins if it begins with a pattern.

    Args:
        layers: built, or able to be built for `shape`.
        shape: of one sample of the input.
    """
    if _is_relu(layers[0]):
        return Fused(2, partial(_pooled_first, layers[1])) if _pools(layers[1:]) else None
    padded = type(layers[0]) is ZeroPadding2D
    at = int(padded)
    convolution = layers[at] if len(layers) > at else None
    if not isinstance(convolution, Convolution2D) or type(convolution) not in _CONVOLUTIONS or len(shape) != 3:
        return None
    before = layers[0].padding if isinstance(layers[0], ZeroPadding2D) else ((0, 0), (0, 0))
    ends = _ends(convolution, (*before[0], *before[1]), shape)
    filters, groups = convolution.filters_and_groups(shape[2])
    pooled = _pooling(convolution, layers[at + 1 :]) if groups == 1 else None
    if pooled is not None:
        behind, pool = pooled
        weight_shape = (filters, *convolution.kernel_size, shape[2])
        if _worthwhile(shape, weight_shape, pool.pool_size, ends):
            return Fused(at + 1 + behind, partial(_block, convolution, pool.pool_size, ends))
    (top, bottom, left, right) = ends
    padding = ((top, bottom), (left, right))
    if convolution.activation == "relu" and _pools(layers[at + 1 :]):
        return Fused(at + 2, partial(_convolved_and_pooled_first, convolution, padding, layers[at + 1]))
    return Fused(2, partial(_padded, convolution, padding)) if padded else None


def _pooling(convolution: Convolution2D, behind: Sequence[Layer]) -> tuple[int, MaxPool2D] | None:
    """Return how many layers behind a convolution a block takes, and its pooling; None where there is no block."""
    kinds = ["relu" if _is_relu(layer) else "pool" if type(layer) is MaxPool2D else "" for layer in behind[:2]]
    if convolution.activation == "relu" and kinds[:1] == ["pool"]:
        count = 1
    elif convolution.activation in (None, "linear") and sorted(kinds) == ["pool", "relu"]:
        count = 2
    else:
        return None
    pool = behind[kinds.index("pool")]
    if not isinstance(pool, MaxPool2D) or pool.strides != pool.pool_size:
        return None
    plain = convolution.strides == convolution.dilation_rate == (1, 1)
    unpadded = pool.padding in ("valid", 0, (0, 0), ((0, 0), (0, 0)))
    return (count, pool) if plain and unpadded else None


def _pools(layers: Sequence[Layer]) -> bool:
    return len(layers) > 0 and type(layers[0]) is MaxPool2D


def _is_relu(layer: Layer) -> bool:
    if type(layer) is Activation:
        return layer.activation == "relu"
    return type(layer) is ReLU and not layer.negative_slope


def _ends(convolution: Convolution2D, before: Pads, shape: Shape) -> Pads:
    """Return the pixels that padding before and in the convolution add together."""
    size = shape[0] + before[0] + before[1], shape[1] + before[2] + before[3]
    own = pads(
        convolution.padding, "Conv2D: padding", size=size, window=convolution.kernel_size, stride=convolution.strides,
        dilation=convolution.dilation_rate,
    )  # fmt: skip
    top, bottom, left, right = (a + b for a, b in zip(before, own, strict=True))
    return top, bottom, left, right


@lru_cache(maxsize=256)
def _worthwhile(shape: Shape, weight_shape: Shape, window: tuple[int, int], ends: Pads) -> bool:
    top, bottom, left, right = ends
    try:
        spec = ConvPool2dSpec.of(
            (1, *shape), weight_shape, window, "float32", padding=((top, bottom), (left, right)), bias=True
        )
    except ValueError:  # too large to fuse, or wrong: then the layers themselves say so
        return False
    return spec.worthwhile


def _block(convolution: Convolution2D, window: tuple[int, int], ends: Pads, x: Tensor) -> Tensor:
    top, bottom, left, right = ends
    return conv2d_relu_max_pool2d(
        x, convolution.weight, convolution.bias, window=window, padding=((top, bottom), (left, right))
    )


def _padded(convolution: Convolution2D, padding: tuple[tuple[int, int], tuple[int, int]], x: Tensor) -> Tensor:
    return convolution.convolve(x, padding)


def _pooled_first(pool: Layer, x: Tensor) -> Tensor:
    return relu(pool(x))


def _convolved_and_pooled_first(
    convolution: Convolution2D, padding: tuple[tuple[int, int], tuple[int, int]], pool: Layer, x: Tensor
) -> Tensor:
    return relu(pool(convolution.convolve(x, padding, activated=False)))
