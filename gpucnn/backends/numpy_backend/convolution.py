"""2-D convolution and its gradients, by the algorithm that is named or fits best.

- "im2col": matrix products of gathered windows. Zero padding is multiplied with finite numbers only: where an infinite
  or NaN factor would make NaN of a padding zero, the pass is done by "taps", in which padding takes no part.
- "col2im", for the gradient of x: the gradients of all windows by one matrix product, added up tap by tap.
- "winograd_4x4" and "winograd_2x2", for 3x3 and 5x5 filters of stride 1, "winograd_4x6" for 3x3 filters, and
  "winograd_6x6" for their gradient: tiles of so many results down and across, with fewer products (see `winograd`).
  What a NaN or an infinity may have spread over is done again by "im2col".
- both gradients together, for the same filters: from one transform of dy (see `winograd_gradients`).
- "bands", for few filters: several results of a row by one window (see `bands`). NaN likewise.
- "taps": one filter tap at a time over the pixels it touches. The better one for depthwise filters, where it needs no
  matrix product.

Results differ by rounding only, and each is the same from run to run. The default follows from the sizes of images,
filters and batch by the rules below, never from a measurement: transforming the filters is not worth its price for few
images.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.numpy_backend import bands, im2col, taps, winograd, winograd_gradients
from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.backends.numpy_backend.windows import windows_of
from gpucnn.specs import Conv2dSpec

GATHER_COST, ADD_COST = 8, 27
"""Products that take as long as gathering one number for a product, and as adding one of a product's (measured)."""


@lru_cache(maxsize=1024)
def algorithms(operation: str, spec: Conv2dSpec) -> tuple[str, ...]:
    """Return the names of the algorithms of "conv2d_forward", "…_backward_input" or "…_weight", the default first."""
    if taps.is_depthwise(spec):
        return ("taps", "im2col")
    others, costs = _others(operation, spec), _costs_of_tiles(operation, spec)
    names = tuple(f"winograd_{down}x{across}" for down, across in sorted(costs, key=costs.__getitem__))
    return names + others if costs and min(costs.values()) < _cost_of_others(operation, spec) else others + names


@lru_cache(maxsize=1024)
def joint_step(spec: Conv2dSpec) -> tuple[int, int] | None:
    """Return the results per tile of dy with which both gradients together take a twentieth less, if any.

    The difference pays for what the costs do not know of.
    """
    costs = {step: winograd_gradients.cost(spec, step) for step in winograd_gradients.joint_steps(spec)}
    if not costs:
        return None
    best = min(costs, key=costs.__getitem__)
    apart = _least_cost("conv2d_backward_input", spec) + _least_cost("conv2d_backward_weight", spec)
    return best if 20 * costs[best] < 19 * apart else None


def _others(operation: str, spec: Conv2dSpec) -> tuple[str, ...]:
    """Return the algorithms that do without tiles, the best first."""
    if operation != "conv2d_backward_input" or spec.groups > 1:
        banded = operation != "conv2d_backward_input" and bands.results(spec, bands.GATHER_COST) > 1
        return ("bands", "im2col", "taps") if banded else ("im2col", "taps")
    by_sums, by_windows = _cost_by_sums(spec), _cost_by_windows(spec)
    better = spec.r * spec.s > 1 and by_sums < by_windows
    others = ("col2im", "im2col", "taps") if better else ("im2col", "col2im", "taps")
    if spec.c > 1 and bands.results(spec, bands.ADD_COST) > 1:  # col2im has a better way for one channel
        return ("bands", *others) if better else (*others, "bands")
    return others


def _cost_of_others(operation: str, spec: Conv2dSpec) -> int:
    """Return the time that they take for an image, counted in products."""
    if operation != "conv2d_backward_input" or spec.groups > 1:
        return spec.p * spec.q * spec.r * spec.s * spec.c * (spec.k + GATHER_COST)
    return min(_cost_by_sums(spec), _cost_by_windows(spec))


def _least_cost(operation: str, spec: Conv2dSpec) -> float:
    """Return the time of the cheapest algorithm."""
    return min((_cost_of_others(operation, spec), *_costs_of_tiles(operation, spec).values()))


def _cost_by_sums(spec: Conv2dSpec) -> int:
    return spec.p * spec.q * spec.r * spec.s * spec.c * (spec.k + ADD_COST)


def _cost_by_windows(spec: Conv2dSpec) -> int:
    area = spec.h * spec.w // (spec.stride[0] * spec.stride[1])
    return area * spec.r * spec.s * spec.k * (spec.c + GATHER_COST)


def _costs_of_tiles(operation: str, spec: Conv2dSpec) -> dict[tuple[int, int], float]:
    """Return the time that tiles take for an image, by the results of one down and across, of all that fit.

    Sigmoid and tanh bound the results but not the sums, whose errors tiles would show: not with those.
    """
    if operation == "conv2d_forward" and spec.activation in ("sigmoid", "tanh"):
        return {}
    height, width = (spec.h, spec.w) if operation == "conv2d_backward_input" else (spec.p, spec.q)
    terms = spec.p * spec.q if operation == "conv2d_backward_weight" else spec.terms(operation)  # of one image
    return {step: winograd.cost(spec, height, width, step) for step in winograd.steps(operation, spec, terms)}


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    spec: Conv2dSpec,
    out: np.ndarray | None,
    algorithm: str,
    scratch: Scratch,
) -> np.ndarray:
    """activation(x * weight + bias)."""
    y = output(out, spec.y_shape, spec.dtype)
    if y.size == 0:
        return y
    filters = _filters(weight, spec)
    epilogue = Epilogue(None if bias is None else widened(bias, spec.dtype), spec.activation, spec.slope, spec.q)
    spoilt: list[int] = []
    if algorithm == "taps" or not (windows_of(spec).inside or np.isfinite(filters).all()):
        taps.forward(x, filters, epilogue, spec, y, scratch)
    elif algorithm == "bands":
        spoilt = bands.forward(x, filters, epilogue, spec, y, scratch)
    elif algorithm == "im2col" or not np.isfinite(filters).all():
        im2col.forward(x, filters, epilogue, spec, y, scratch)
    else:
        spoilt = winograd.forward(x, filters, epilogue, spec, _tile_step(algorithm), y, scratch)
    if spoilt:
        y[spoilt] = forward(x[spoilt], weight, bias, replace(spec, n=len(spoilt)), None, "im2col", scratch)
    return y


def backward_input(
    dy: np.ndarray, weight: np.ndarray, spec: Conv2dSpec, out: np.ndarray | None, algorithm: str, scratch: Scratch
) -> np.ndarray:
    """Gradient of x."""
    dx = output(out, spec.x_shape, spec.dtype)
    if dx.size == 0:
        return dx
    filters = _filters(weight, spec)
    spoilt: list[int] = []
    if algorithm == "bands":
        spoilt = bands.backward_input(dy, filters, spec, dx, scratch)
    elif algorithm == "col2im":
        im2col.backward_input_by_tap(dy, filters, spec, dx, scratch)
    elif algorithm == "taps" or not np.isfinite(filters).all():
        taps.backward_input(dy, filters, spec, dx, scratch)
    elif algorithm == "im2col":
        im2col.backward_input_by_phases(dy, filters, spec, dx, scratch)
    else:
        spoilt = winograd.backward_input(dy, filters, spec, _tile_step(algorithm), dx, scratch)
    if spoilt:
        dx[spoilt] = backward_input(dy[spoilt], weight, replace(spec, n=len(spoilt)), None, "im2col", scratch)
    return dx


def backward_weight(
    dy: np.ndarray, x: np.ndarray, spec: Conv2dSpec, out: np.ndarray | None, algorithm: str, scratch: Scratch
) -> np.ndarray:
    """Gradient of the weight."""
    dw = output(out, spec.weight_shape, spec.dtype)
    if spec.n == 0:
        dw[...] = 0
        return dw
    sums = workplace(dw, spec.dtype)
    filters = _mirrored(sums, spec)
    if algorithm == "bands":
        bands.backward_weight(dy, x, spec, filters, scratch)
    elif algorithm.startswith("winograd"):
        winograd_gradients.backward_weight(dy, x, spec, _tile_step(algorithm), filters, scratch)
    if algorithm == "im2col" or (algorithm != "taps" and not np.isfinite(sums).all()):
        im2col.backward_weight(dy, x, spec, filters, scratch)
    if algorithm == "taps" or not (windows_of(spec).inside or np.isfinite(sums).all()):
        taps.backward_weight(dy, x, spec, filters, scratch)
    return store(sums, dw)


def backward_operands(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    spec: Conv2dSpec,
    step: tuple[int, int],
    out: tuple[np.ndarray | None, np.ndarray | None],
    scratch: Scratch,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of x and of the weight, from tiles of dy with so many results down and across."""
    filters = _filters(weight, spec)
    if spec.n == 0 or not np.isfinite(filters).all():
        dw = backward_weight(dy, x, spec, out[1], "im2col", scratch)
        return backward_input(dy, weight, spec, out[0], "im2col", scratch), dw
    dx, dw = output(out[0], spec.x_shape, spec.dtype), output(out[1], spec.weight_shape, spec.dtype)
    sums = workplace(dw, spec.dtype)
    spoilt = winograd_gradients.backward_operands(dy, x, filters, spec, step, dx, _mirrored(sums, spec), scratch)
    if spoilt:
        dx[spoilt] = backward_input(dy[spoilt], weight, replace(spec, n=len(spoilt)), None, "im2col", scratch)
    if not np.isfinite(sums).all():
        return dx, backward_weight(dy, x, spec, dw, "im2col", scratch)
    return dx, store(sums, dw)


def _filters(weight: np.ndarray, spec: Conv2dSpec) -> np.ndarray:
    """Return the weight as cross-correlation takes it, in the type of the sums."""
    return _mirrored(weight, spec).astype(dtypes.accumulator(spec.dtype), copy=False)


def _mirrored(weight: np.ndarray, spec: Conv2dSpec) -> np.ndarray:
    return weight[:, ::-1, ::-1] if spec.flip else weight


def _tile_step(algorithm: str) -> tuple[int, int]:
    """Return the results that a tile of "winograd_6x4" has down and across."""
    return int(algorithm[-3]), int(algorithm[-1])
