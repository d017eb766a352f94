"""Convolutions and padding as functional operations: gradients by finite differences, options, refusals.

Values are compared with definitions in tests/operations, arguments and bad input are in test_functional_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients
from inputs import normal

import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.specs import ACTIVATIONS, Conv2dSpec

CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 4, 5, 3), (4, 2, 3, 3), {}),
    "all_different": ((2, 7, 6, 2), (3, 3, 2, 2), {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "dilation": (2, 1)}),
    "grouped": ((2, 4, 3, 6), (4, 2, 2, 3), {"groups": 2, "padding": 1}),
    "depthwise_flipped": ((1, 4, 4, 3), (6, 3, 2, 1), {"groups": 3, "flip": True}),
    "same_with_stride": ((1, 5, 4, 2), (2, 3, 2, 2), {"padding": "same", "stride": 2}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv2d_gradients(backend: Backend, case: str) -> None:
    x, w, options = CONVOLUTIONS[case]
    arrays = [normal(*x), normal(*w, seed=1), normal(w[0], seed=2)]
    check_gradients(lambda x, w, b: F.conv2d(x, w, b, **options), arrays, backend)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_conv2d_gradients_through_every_activation_fused_or_not(backend: Backend, name: str) -> None:
    """gelu and silu follow the convolution, the others are its epilogue; both equal the activation applied after."""
    arrays = [normal(1, 3, 4, 2), normal(3, 2, 2, 2, seed=1), normal(3, seed=2)]
    check_gradients(lambda x, w, b: F.conv2d(x, w, b, activation=name), arrays, backend)
    fused = F.conv2d(*arrays, activation=name)
    after = F.activation(F.conv2d(*arrays), name)
    np.testing.assert_allclose(fused.numpy(), after.numpy(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_conv2d_gradients_through_every_padding_mode(backend: Backend, mode: str) -> None:
    arrays = [normal(2, 4, 3, 2), normal(2, 2, 2, 2, seed=1)]
    options: dict[str, Any] = {"padding": ((2, 1), (1, 2)), "padding_mode": mode}
    check_gradients(lambda x, w: F.conv2d(x, w, **options), arrays, backend)
    ends = ((0, 0), (2, 1), (1, 2), (0, 0))
    named = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    padded = np.pad(arrays[0], ends, named[mode])
    np.testing.assert_allclose(F.conv2d(*arrays, **options).numpy(), F.conv2d(padded, arrays[1]).numpy(), rtol=1e-12)


def test_conv2d_gradients_around_a_padding_value(backend: Backend) -> None:
    arrays = [normal(2, 4, 3, 2), normal(2, 2, 2, 2, seed=1)]
    options: dict[str, Any] = {"padding": ((2, 1), (1, 2)), "padding_value": 1.5}
    check_gradients(lambda x, w: F.conv2d(x, w, **options), arrays, backend)
    padded = np.pad(arrays[0], ((0, 0), (2, 1), (1, 2), (0, 0)), constant_values=1.5)
    np.testing.assert_allclose(F.conv2d(*arrays, **options).numpy(), F.conv2d(padded, arrays[1]).numpy(), rtol=1e-12)


def test_same_padding_with_a_mode(backend: Backend) -> None:
    x, w = normal(1, 5, 4, 1), normal(1, 3, 2, 1, seed=1)
    found = F.conv2d(x, w, padding="same", stride=2, padding_mode="replicate")
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), "edge")
    np.testing.assert_allclose(found.numpy(), F.conv2d(padded, w, stride=2).numpy(), rtol=1e-12)


def test_flip_mirrors_the_filters(backend: Backend) -> None:
    x, w = normal(1, 4, 4, 2), normal(2, 3, 2, 2, seed=1)
    np.testing.assert_allclose(
        F.conv2d(x, w, flip=True).numpy(), F.conv2d(x, w[:, ::-1, ::-1]).numpy(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("algorithm", ["direct", "implicit_gemm"])
def test_algorithms_may_be_forced_for_all_passes(backend: Backend, algorithm: str) -> None:
    arrays = [normal(2, 4, 5, 3), normal(4, 2, 3, 3, seed=1), normal(4, seed=2)]
    spec = Conv2dSpec.of(arrays[0].shape, arrays[1].shape, "float64", bias=True)
    known = backend.algorithms("conv2d_forward", spec)
    if not any(name.split("/")[0] == algorithm for name in known):
        algorithm = known[-1]
    check_gradients(lambda x, w, b: F.conv2d(x, w, b, algorithm=algorithm), arrays, backend)


def test_unknown_algorithms_are_refused(backend: Backend) -> None:
    with pytest.raises(ValueError, match="^conv2d_forward.* has no algorithm 'winograd'"):
        F.conv2d(normal(1, 4, 5, 3), normal(4, 2, 3, 3), algorithm="winograd")


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": (2, 1), "dilation": 2}, {"padding": "same", "groups": 2}]
)
def test_conv1d_gradients_and_its_twin_in_two_dimensions(backend: Backend, options: dict[str, Any]) -> None:
    arrays = [normal(2, 7, 4), normal(2, 3, 4 // options.get("groups", 1), seed=1), normal(2, seed=2)]
    check_gradients(lambda x, w, b: F.conv1d(x, w, b, **options), arrays, backend)
    sides = options.get("padding", 0)
    two = {"stride": (1, options.get("stride", 1)), "dilation": (1, options.get("dilation", 1))}
    two["groups"], two["padding"] = (
        options.get("groups", 1),
        sides if isinstance(sides, str) else ((0, 0), sides or (0, 0)),
    )
    flat = F.conv2d(arrays[0][:, None], arrays[1][:, None], arrays[2], **two)
    np.testing.assert_array_equal(F.conv1d(*arrays, **options).numpy(), flat.numpy()[:, 0])


def test_conv1d_pads_by_modes(backend: Backend) -> None:
    x, w = normal(1, 4, 2), normal(2, 3, 2, seed=1)
    padded = np.pad(x, ((0, 0), (2, 1), (0, 0)), "reflect")
    found = F.conv1d(x, w, padding=(2, 1), padding_mode="reflect", flip=True)
    np.testing.assert_allclose(found.numpy(), F.conv1d(padded, w[:, ::-1]).numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.conv1d(normal(1, 2, 3, 4), normal(1, 2, 4)), ValueError, r"^conv1d: x must be \(N, W, C\) and"),
        (lambda: F.conv1d(normal(1, 7, 4), normal(2, 3, 4), padding=(1, 2, 3)), ValueError, "^conv1d: padding must be"),
        (lambda: F.conv1d(normal(1, 7, 4), normal(2, 3, 4), stride=0), ValueError, "stride must be an integer"),
        (lambda: F.conv2d(normal(4, 5, 3), normal(4, 2, 3, 3)), ValueError, r"^conv2d: x must be \(N, H, W, C\), got"),
        (lambda: F.conv2d(normal(1, 4, 5, 3), normal(2, 3, 3)), ValueError, "^conv2d: weight must be"),
        (lambda: F.conv2d(normal(1, 4, 5, 3), normal(4, 2, 3, 3), normal(3)), ValueError,
         r"^conv2d: bias must have shape \(4,\), one for each filter, got \(3,\)$"),
        (lambda: F.conv2d(normal(1, 4, 5, 3), normal(4, 2, 3, 3), normal(4, 1)), ValueError, r"got \(4, 1\)"),
        (lambda: F.conv2d(normal(1, 4, 5, 3), normal(4, 2, 3, 3), activation="mish"), ValueError, "activation 'mish'"),
        (lambda: F.conv2d(normal(1, 4, 5, 3), normal(4, 2, 3, 3), padding_mode="mirror"), ValueError,
         "unknown padding_mode 'mirror'"),
        (lambda: F.conv2d(normal(1, 4, 5, 3), normal(4, 2, 3, 3), padding=4, padding_mode="reflect"), ValueError,
         "'reflect' allows at most 3 pixels for height 4, got 4"),
        (lambda: F.conv2d(normal(1, 4, 5, 3), normal(2, 3, 3), padding_mode="reflect"), ValueError, "weight must"),
        (lambda: F.conv2d(normal(4, 5, 3), normal(2, 3, 3, 3), padding_value=1.0), ValueError, "^conv2d: x must be"),
        (lambda: F.pad2d(normal(1, 4, 5, 3), "same"), ValueError, "^pad2d: padding must be an integer, .* got 'same'"),
        (lambda: F.pad2d(normal(4, 5, 3), 1), ValueError, r"^pad2d: x must be \(N, H, W, C\), got shape"),
    ],
)  # fmt: skip
def test_convolution_refusals(
    backend: Backend, call: Callable[[], Tensor], error: type[Exception], message: str
) -> None:
    """S1 to S5 and S7 are in tests/specs: the message comes from the Spec, so it is the same on every backend."""
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad2d_gradients(backend: Backend, mode: str) -> None:
    check_gradients(lambda x: F.pad2d(x, ((2, 1), (0, 3)), mode=mode), [normal(2, 4, 5, 3)], backend)


def test_pad2d_by_nothing_is_the_tensor_itself(backend: Backend) -> None:
    x = tensor(normal(1, 2, 2, 1))
    assert F.pad2d(x, 0) is x
