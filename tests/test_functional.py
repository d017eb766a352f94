"""Functional operations: gradients by finite differences on every backend, options, refusals.

Values are compared with definitions in tests/operations, arguments and bad input are in test_functional_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients

import gpucnn
import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.functional.activations import deferring
from gpucnn.generator import Generator
from gpucnn.specs import ACTIVATIONS, Conv2dSpec


def normal(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.asarray(np.random.default_rng((seed, *shape)).standard_normal(shape), dtype)


def distinct(*shape: int) -> np.ndarray:
    """Numbers at least 1/4 apart and away from 0, in random places: no ties, no kinks within a step."""
    n = int(np.prod(shape))
    return np.random.default_rng(n).permutation(n).reshape(shape) / 4 - n / 8 + 0.1


def same(actual: Tensor, expected: Any) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-6)


# -- convolution --------------------------------------------------------------------------------------------------
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


# -- pooling ------------------------------------------------------------------------------------------------------
POOLINGS: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "tiles": ((2, 4, 6, 3), 2, {}),
    "overlapping": ((1, 5, 6, 2), (3, 2), {"stride": (1, 2), "padding": (1, 0)}),
    "ceil": ((1, 5, 6, 2), 3, {"stride": 2, "ceil_mode": True, "padding": ((1, 0), (0, 1))}),
}


@pytest.mark.parametrize("case", POOLINGS)
@pytest.mark.parametrize("pool", [F.max_pool2d, F.min_pool2d, F.avg_pool2d])
def test_pooling_gradients(backend: Backend, pool: Any, case: str) -> None:
    shape, window, options = POOLINGS[case]
    check_gradients(lambda x: pool(x, window, **options), [distinct(*shape)], backend)


def test_pooling_gradients_of_the_other_options(backend: Backend) -> None:
    shape, window, options = POOLINGS["ceil"]
    check_gradients(lambda x: F.avg_pool2d(x, window, count_include_pad=False, **options), [distinct(*shape)], backend)
    check_gradients(lambda x: F.max_pool2d(x, 2, stride=1, dilation=(2, 1)), [distinct(1, 5, 4, 2)], backend)
    check_gradients(lambda x: F.min_pool2d(x, 2, dilation=2, padding="same"), [distinct(1, 5, 4, 2)], backend)


def test_min_pooling_is_max_pooling_of_the_negative(backend: Backend) -> None:
    x = normal(2, 5, 6, 3)
    np.testing.assert_array_equal(F.min_pool2d(x, 3, padding=1).numpy(), -F.max_pool2d(-x, 3, padding=1).numpy())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: F.max_pool2d(x, 0), "^max pooling: window must be an integer"),
        (lambda x: F.min_pool2d(x, 5), "^min pooling: height of the output would be"),
        (lambda x: F.avg_pool2d(x, 2, stride=0), "^average pooling: stride must be"),
        (lambda x: F.max_pool2d(x, 2, padding=2), "^max pooling: padding must be at most half the window"),
        (lambda x: F.max_pool2d(x.reshape(4, 4), 2), r"^max pooling: x must be \(N, H, W, C\), got shape \(4, 4\)$"),
    ],
)
def test_s1_to_s3_pooling_refusals(backend: Backend, call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tensor(normal(1, 4, 4, 1)))


# -- rows ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradients(backend: Backend, name: str) -> None:
    check_gradients(lambda x: F.activation(x, name), [distinct(3, 7)], backend)


@pytest.mark.parametrize("name", [None, *ACTIVATIONS])
def test_add_gradients_through_every_activation_fused_or_not(backend: Backend, name: str | None) -> None:
    arrays = [normal(3, 4, 5), normal(3, 4, 5, seed=1)]
    check_gradients(lambda x, y: F.add(x, y, activation=name), arrays, backend)
    same(F.add(*arrays, activation=name), F.activation(arrays[0] + arrays[1], name).numpy())


def test_add_gradients_of_what_was_broadcast(backend: Backend) -> None:
    arrays = [normal(2, 3, 4), normal(3, 1, seed=1)]
    check_gradients(lambda x, y: F.add(x, y, activation="relu"), arrays, backend)
    check_gradients(lambda x, y: F.add(y, x, activation="tanh"), arrays, backend)


def test_s15_add_a_tensor_to_itself(backend: Backend) -> None:
    check_gradients(lambda x: F.add(x, x, activation="sigmoid"), [normal(3, 4)], backend)


def test_add_refusals(backend: Backend) -> None:
    with pytest.raises(ValueError, match=r"^add: shapes \(2, 3\) and \(2, 2\) do not broadcast$"):
        F.add(np.ones((2, 3)), np.ones((2, 2)), activation="relu")
    with pytest.raises(ValueError, match="^unknown activation 'swish'"):
        F.add(np.ones(3), np.ones(3), activation="swish")
    with pytest.raises(TypeError, match="^add: y must be float64, got float32"):
        F.add(np.ones(3), np.ones(3, np.float32))
    with pytest.raises(TypeError, match="^add: x must be float32, got float64"):
        F.add(np.ones(3), tensor(np.ones(3, np.float32)))


def test_activations_by_their_own_names(backend: Backend) -> None:
    x = normal(9)
    for name in set(ACTIVATIONS) - {"linear"}:
        np.testing.assert_array_equal(getattr(F, name)(x).numpy(), F.activation(x, name).numpy())
    check_gradients(lambda x: F.leaky_relu(x, 0.3), [distinct(7)], backend)
    t = tensor(x)
    assert F.activation(t, None) is t and F.activation(t, "linear") is t
    with pytest.raises(ValueError, match="^unknown activation 'swish'; known: linear, relu, leaky_relu"):
        F.activation(t, "swish")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_linear_gradients_through_every_activation(backend: Backend, name: str) -> None:
    arrays = [normal(3, 4), normal(5, 4, seed=1), normal(5, seed=2)]
    check_gradients(lambda x, w, b: F.linear(x, w, b, activation=name), arrays, backend)
    after = F.activation(arrays[0] @ arrays[1].T + arrays[2], name)
    np.testing.assert_allclose(F.linear(*arrays, activation=name).numpy(), after.numpy(), rtol=1e-12, atol=1e-14)


def test_linear_without_bias(backend: Backend) -> None:
    check_gradients(F.linear, [normal(3, 4), normal(5, 4, seed=1)], backend)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: F.linear(normal(3, 4), normal(5, 3)), r"^linear: inner sizes differ: 4 of shape \(3, 4\) and 3 of"),
        (lambda: F.linear(normal(4), normal(5, 4)), r"^linear: both arguments must have 2 axes, got shapes \(4,\)"),
        (
            lambda: F.linear(normal(3, 4), normal(5, 4), normal(4)),
            r"^linear: bias must have shape \(5,\), one for each unit",
        ),
        (lambda: F.linear(normal(3, 0), normal(5, 0)), r"^linear: weight must have at least one unit and feature"),
        (lambda: F.linear(normal(3, 4), normal(0, 4)), r"at least one unit and feature, got shape \(0, 4\)"),
    ],
)
def test_linear_refusals(backend: Backend, call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("shape", [(3, 5), (5,), (2, 3, 4), (4, 1)])
def test_softmax_gradients(backend: Backend, shape: tuple[int, ...]) -> None:
    check_gradients(F.softmax, [normal(*shape)], backend)
    check_gradients(F.log_softmax, [normal(*shape)], backend)
    e = np.exp(normal(*shape))
    np.testing.assert_allclose(F.softmax(normal(*shape)).numpy(), e / e.sum(-1, keepdims=True), rtol=1e-12)


def test_softmax_remembers_its_logits_for_a_loss(backend: Backend) -> None:
    x = tensor(normal(2, 3), requires_grad=True)
    assert F.softmax(x).logits is x and F.log_softmax(x).logits is None and F.softmax(x).detach().logits is None
    with pytest.raises(ValueError, match="^softmax: x must have at least one axis, got a scalar$"):
        F.softmax(1.0)
    with pytest.raises(ValueError, match="last axis must have at least one element, got 0"):
        F.softmax(np.zeros((3, 0)))


def test_a_deferring_is_the_same_when_it_is_read(backend: Backend) -> None:
    found = []
    for scope in (nullcontext(), deferring()):
        x = tensor(normal(2, 3), requires_grad=True)
        with scope:
            y = F.softmax(x)
        assert (y.shape, y.ndim, y.size, y.dtype) == ((2, 3), 2, 6, "float64")
        (y * normal(2, 3, seed=1)).sum().backward()
        found.append((y.numpy(), y.numpy(), backend.to_host(x.grad)))
    for now, later in zip(*found, strict=True):
        np.testing.assert_array_equal(now, later)


@pytest.mark.parametrize("read", ["nothing", "logits", "softmax"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_deferred_last_layer_has_the_same_loss_and_gradients(backend: Backend, read: str, scale: float) -> None:
    """Computed with its loss, or before it, when something reads it first."""
    labels, found = np.array([2, 0, 1, 2]), []
    for scope in (nullcontext(), deferring()):
        x, w, b = (tensor(normal(*shape), requires_grad=True) for shape in ((4, 5), (3, 5), (3,)))
        with scope:
            y = F.softmax(F.linear(x, w, b))
            assert y.logits is not None
            assert (y.logits.deferred is None) == isinstance(scope, nullcontext)
            if read != "nothing":
                (y if read == "softmax" else y.logits).numpy()
            loss = F.cross_entropy(y.logits, labels)
        (loss if scale == 1.0 else loss * scale).backward()
        found.append([loss.numpy(), y.numpy(), *(backend.to_host(t.grad) for t in (x, w, b))])
    for now, later in zip(*found, strict=True):
        np.testing.assert_array_equal(now, later)


def test_a_product_that_nothing_read_is_computed_before_its_weight_may_change(backend: Backend) -> None:
    x, w = tensor(normal(4, 5)), tensor(normal(3, 5))
    with deferring():
        y, scores = F.linear(x, w), F.softmax(F.linear(x, w))
    expected = F.linear(x, w).numpy()
    backend.copy(w.data, np.zeros((3, 5)))
    np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(scores.numpy(), F.softmax(expected).numpy())


LABELS = np.array([2, 0, 1, 2])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_gradients(backend: Backend, reduction: str, weighted: bool, smoothing: float) -> None:
    weight = np.array([0.5, 2.0, 1.25]) if weighted else None
    options: dict[str, Any] = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
    z = normal(4, 3)
    check_gradients(lambda z: F.cross_entropy(z, LABELS, **options), [z], backend)
    w, log_p = np.ones(3) if weight is None else weight, z - np.log(np.exp(z).sum(1, keepdims=True))
    rows = -(1 - smoothing) * w[LABELS] * log_p[np.arange(4), LABELS] - smoothing / 3 * (w * log_p).sum(1)
    expected = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / w[LABELS].sum()}[reduction]
    np.testing.assert_allclose(F.cross_entropy(z, LABELS, **options).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("labels", [LABELS.tolist(), LABELS[:, None], LABELS.astype("uint8"), tuple(LABELS)])
def test_labels_of_every_form(backend: Backend, labels: Any) -> None:
    z = normal(4, 3)
    expected = F.cross_entropy(z, LABELS).item()
    assert F.cross_entropy(z, labels).item() == expected
    assert F.cross_entropy(z, tensor(LABELS)).item() == expected


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1, 2, -1], r"^labels must be 0..2, got -1 at position 3 \(1 such labels\)$"),
        ([0, 3, 9, 1], r"^labels must be 0..2, got 3 at position 1 \(2 such labels\)$"),
        ([0.0, 1.0, 2.0, 1.0], r"^labels must be integers 0..2, got dtype float64$"),
        ([True, False, True, True], "labels must be integers 0..2, got dtype bool"),
        ([0, 1, 2], r"^labels must have shape \(4,\), got \(3,\)$"),
        (np.zeros((4, 2), int), r"^labels must have shape \(4,\), got \(4, 2\)$"),
        (0, r"^labels must have shape \(4,\), got \(\)$"),
        (np.array([0, 1, 2, 2**40]), "got 1099511627776 at position 3"),
    ],
)
def test_n5_wrong_labels(backend: Backend, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        F.cross_entropy(tensor(normal(4, 3), requires_grad=True), labels)


def test_n5_wrong_labels_in_a_tensor(backend: Backend) -> None:
    """Checked where the host can read them; in device memory the row's loss and gradient become NaN."""
    z = tensor(normal(4, 3), requires_grad=True)
    if backend.host_memory:
        with pytest.raises(ValueError, match="labels must be 0..2, got 7 at position 2"):
            F.cross_entropy(z, tensor([0, 1, 7, 2]))
    else:
        assert np.isnan(F.cross_entropy(z, tensor([0, 1, 7, 2]), reduction="none").numpy()).tolist() == [0, 0, 1, 0]
    with pytest.raises(ValueError, match=r"^cross_entropy: labels must have shape \(4,\), got \(3,\)$"):
        F.cross_entropy(z, tensor([0, 1, 2]))
    with pytest.raises(TypeError, match="^cross_entropy: labels must be int32, got float32"):
        F.cross_entropy(z, tensor([0.0, 1.0, 2.0, 1.0]))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda z: F.cross_entropy(z.reshape(12), LABELS), r"^cross_entropy: logits must be \(N, classes\), got shape"),
        (lambda z: F.cross_entropy(z, LABELS, weight=[1.0, 2.0]), r"weight must have shape \(3,\), got \(2,\)$"),
        (lambda z: F.cross_entropy(z, LABELS, label_smoothing=1.5), "label_smoothing must be from 0 to 1, got 1.5"),
        (lambda z: F.cross_entropy(z, LABELS, reduction="max"), "reduction must be one of none, sum, mean, got"),
        (lambda z: F.binary_cross_entropy(z, normal(4, 2)), r"targets have shape \(4, 2\), logits \(4, 3\)"),
        (lambda z: F.binary_cross_entropy(z, z, reduction="max"), "reduction must be one of none, sum, mean, got"),
    ],
)  # fmt: skip
def test_loss_refusals(backend: Backend, call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tensor(normal(4, 3)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy_gradients(backend: Backend, reduction: str) -> None:
    z, t = normal(3, 4), np.random.default_rng(0).uniform(0, 1, (3, 4))
    check_gradients(lambda z: F.binary_cross_entropy(z, t, reduction=reduction), [z], backend)
    p = 1 / (1 + np.exp(-z))
    each = -t * np.log(p) - (1 - t) * np.log(1 - p)
    expected = {"none": each, "sum": each.sum(), "mean": each.mean()}[reduction]
    np.testing.assert_allclose(F.binary_cross_entropy(z, t, reduction=reduction).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_n4_extreme_logits_give_finite_losses(backend: Backend, dtype: str) -> None:
    z = tensor(np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype), requires_grad=True)
    loss = F.cross_entropy(z, [1, 1])
    loss.backward()
    assert loss.item() == 10000.0 and np.isfinite(backend.to_host(z.grad)).all()
    t = tensor(np.array([1e4, -1e4], dtype), requires_grad=True)
    loss = F.binary_cross_entropy(t, np.array([0.0, 1.0], dtype))
    loss.backward()
    assert loss.item() == 1e4 and np.isfinite(backend.to_host(t.grad)).all()


# -- dropout ------------------------------------------------------------------------------------------------------
def test_dropout_gradients_use_the_mask_of_the_forward_pass(backend: Backend) -> None:
    generator = Generator(5)
    x = tensor(normal(50), requires_grad=True)
    y = F.dropout(x, 0.4, generator=generator)
    generator.advance(backend)
    y.backward(np.ones(50))
    kept = y.numpy() != 0
    assert 15 < kept.sum() < 45
    np.testing.assert_allclose(backend.to_host(x.grad), kept / 0.6, rtol=1e-12)
    np.testing.assert_allclose(y.numpy(), kept * normal(50) / 0.6, rtol=1e-12)


def test_dropout_masks_depend_on_seed_step_and_stream_alone(backend: Backend) -> None:
    def mask(seed: int, stream: int, steps: int = 0, count: int = 200) -> list[bool]:
        generator = Generator(seed)
        for _ in range(steps):
            generator.advance(backend)
        y = F.dropout(np.ones(count, np.float32), 0.5, generator=generator, stream=stream)
        return (y.numpy() != 0).tolist()

    first = mask(1, 2)
    assert first == mask(1, 2) and first[:100] == mask(1, 2, count=100)
    assert len({tuple(m) for m in (first, mask(2, 2), mask(1, 3), mask(1, 2, 1), mask(1 + 2**32, 2))}) == 5


def test_dropout_masks_are_those_of_numpy(backend: Backend) -> None:
    with gpucnn.use_backend("numpy"):
        expected = F.dropout(np.ones(1001, np.float32), 0.3, generator=Generator(2**40 + 7), stream=3).numpy()
    found = F.dropout(np.ones(1001, np.float32), 0.3, generator=Generator(2**40 + 7), stream=3).numpy()
    np.testing.assert_array_equal(found, expected)


def test_dropout_without_a_generator_advances_the_process(backend: Backend) -> None:
    gpucnn.seed(3)
    one, two = (F.dropout(np.ones(64, np.float32), 0.5).numpy() for _ in range(2))
    gpucnn.seed(3)
    again = F.dropout(np.ones(64, np.float32), 0.5).numpy()
    assert (one != two).any() and (one == again).all()


def test_dropout_of_nothing_and_of_none(backend: Backend) -> None:
    x = tensor(normal(4))
    assert F.dropout(x, 0.0) is x
    empty = tensor(np.zeros((0, 3)), requires_grad=True)
    F.dropout(empty, 0.5).backward(np.zeros((0, 3)))
    assert empty.grad.shape == (0, 3)


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_dropout_rates(backend: Backend, rate: float) -> None:
    with pytest.raises(ValueError, match="^dropout: rate must be at least 0 and below 1, got"):
        F.dropout(normal(4), rate)
