"""What functional operations accept as arguments, and rows S and N of FAULTS.md, on every backend.

Messages come from the Specs, so they are the same on every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients
from inputs import normal

import gpucnn
import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.autograd import as_tensor
from gpucnn.backends import Backend
from gpucnn.errors import DeviceError
from gpucnn.generator import Generator
from gpucnn.specs import ACTIVATIONS


def same(actual: Tensor, expected: Any) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-6)


# -- arguments ----------------------------------------------------------------------------------------------------
CALLS: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "conv2d": (F.conv2d, [(1, 3, 3, 2), (2, 2, 2, 2), (2,)]),
    "conv1d": (F.conv1d, [(1, 3, 2), (2, 2, 2), (2,)]),
    "pad2d": (lambda x: F.pad2d(x, 1), [(1, 3, 3, 2)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), [(1, 3, 3, 2)]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), [(1, 3, 3, 2)]),
    "conv2d_relu_max_pool2d": (
        lambda x, w, b: F.conv2d_relu_max_pool2d(x, w, b, window=2),
        [(1, 3, 3, 2), (2, 2, 2, 2), (2,)],
    ),
    "linear": (F.linear, [(2, 3), (4, 3), (4,)]),
    "relu": (F.relu, [(2, 3)]),
    "softmax": (F.softmax, [(2, 3)]),
    "cross_entropy": (lambda z, w: F.cross_entropy(z, [0, 1], weight=w), [(2, 3), (3,)]),
    "binary_cross_entropy": (F.binary_cross_entropy, [(2, 3), (2, 3)]),
    "dropout": (lambda x: F.dropout(x, 0.5, generator=Generator(0)), [(2, 3)]),
}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_lists_and_tensors_are_accepted(backend: Backend, name: str) -> None:
    call, shapes = CALLS[name]
    arrays = [np.abs(normal(*s, seed=i, dtype="float32")) for i, s in enumerate(shapes)]
    expected = call(*(tensor(a) for a in arrays))
    for given in (
        arrays,
        [a.tolist() for a in arrays],
        [backend.from_host(a) for a in arrays],
        [tensor(arrays[0]), *arrays[1:]],
    ):
        found = call(*given)
        assert found.backend is backend and found.dtype == "float32"
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("name", CALLS)
def test_s9_s10_other_dtypes_are_refused(backend: Backend, name: str) -> None:
    call, shapes = CALLS[name]
    arrays = [np.abs(normal(*s, dtype="float32")) for s in shapes]
    for i in range(len(arrays)):
        for other in ("int64", "complex64", "S1", object):
            with pytest.raises(TypeError, match="must be"):
                call(*(a.astype(other) if j == i else a for j, a in enumerate(arrays)))
        if len(arrays) > 1:
            with pytest.raises(TypeError, match="dtypes are never mixed"):
                call(*(a.astype("float64") if j == i else a for j, a in enumerate(arrays)))


def test_s9_uint8_images_are_cast_and_not_rescaled(backend: Backend) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1)).astype(np.uint8)
    same(F.max_pool2d(images, 2), images.reshape(2, 2, 2, 2, 2, 1).max((2, 4)).astype(np.float32))


@pytest.mark.parametrize("name", ["conv2d", "linear", "cross_entropy", "binary_cross_entropy"])
def test_s14_the_argument_on_another_backend_is_named(backend_of: Callable[[str], Backend], name: str) -> None:
    backend_of("emulated")
    call, shapes = CALLS[name]
    arrays = [np.abs(normal(*s, dtype="float32")) for s in shapes]
    with pytest.raises(DeviceError, match="'emulated', the operation runs on 'numpy'|on different backends"):
        call(tensor(arrays[0], backend="numpy"), *(tensor(a, backend="emulated") for a in arrays[1:]))


def test_one_tensor_decides_the_backend_of_arrays(backend_of: Callable[[str], Backend]) -> None:
    emulated = backend_of("emulated")
    x, w = normal(2, 3, dtype="float32"), tensor(normal(4, 3, dtype="float32"), backend="emulated")
    with gpucnn.use_backend("numpy"):
        assert F.linear(x, w).backend is emulated


@pytest.mark.parametrize("name", [n for n in CALLS if n != "dropout"])
def test_inputs_are_left_alone(backend: Backend, name: str) -> None:
    call, shapes = CALLS[name]
    arrays = [np.abs(normal(*s, seed=i, dtype="float32")) for i, s in enumerate(shapes)]
    tensors = [tensor(a, requires_grad=True) for a in arrays]
    y = call(*tensors)
    kept = y.numpy()
    y.backward(np.ones(y.shape, np.float32))
    for t, a in zip(tensors, arrays, strict=True):
        np.testing.assert_array_equal(t.numpy(), a)
    np.testing.assert_array_equal(y.numpy(), kept)


# -- rows S and N of FAULTS.md ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    ["conv2d", "conv1d", "pad2d", "max_pool2d", "avg_pool2d", "conv2d_relu_max_pool2d", "linear", "relu", "softmax"]
    + ["dropout"],
)
def test_s6_empty_batches_go_forward_and_backward(backend: Backend, name: str) -> None:
    call, shapes = CALLS[name]
    arrays = [normal(*s, seed=i, dtype="float32") for i, s in enumerate(shapes)]
    arrays[0] = arrays[0][:0]
    tensors = [tensor(a, requires_grad=True) for a in arrays]
    y = call(*tensors)
    assert y.shape[0] == 0 and y.shape[1:] == call(*(tensor(np.zeros(s, np.float32)) for s in shapes)).shape[1:]
    y.backward(np.zeros(y.shape, np.float32))
    assert tensors[0].grad.shape == arrays[0].shape
    for t in tensors[1:]:
        np.testing.assert_array_equal(backend.to_host(t.grad), np.zeros(t.shape))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_s6_losses_of_nothing(backend: Backend, loss: str) -> None:
    """The sum over nothing is 0, the mean is no number."""
    z = tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    other: Any = [] if loss == "cross_entropy" else np.zeros((0, 3), np.float32)
    compute = getattr(F, loss)
    assert compute(z, other, reduction="sum").item() == 0.0
    assert np.isnan(compute(z, other, reduction="mean").item())
    assert compute(z, other, reduction="none").shape[0] == 0
    compute(z, other, reduction="sum").backward()
    assert z.grad.shape == (0, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_n1_nan_and_infinity_propagate(backend: Backend, bad: float) -> None:
    x = normal(1, 4, 4, 1, dtype="float32")
    x[0, 1, 1, 0] = bad
    touched = np.zeros((3, 3), bool)
    touched[:2, :2] = True
    y = F.conv2d(x, np.ones((1, 2, 2, 1), np.float32)).numpy()[0, :, :, 0]
    np.testing.assert_array_equal(~np.isfinite(y), touched)
    for pool in (F.max_pool2d, F.min_pool2d, F.avg_pool2d):
        y = pool(x, 2, stride=1).numpy()[0, :, :, 0]
        if np.isnan(bad) or pool is F.avg_pool2d:
            np.testing.assert_array_equal(np.isnan(y) if np.isnan(bad) else np.isinf(y), touched)
    if np.isnan(bad):
        for name in ACTIVATIONS:
            assert np.isnan(F.activation(x, name).numpy()[0, 1, 1, 0]), name
        row = x[0, 1, :, 0]
        assert np.isnan(F.softmax(row).numpy()).all() and np.isnan(F.log_softmax(row).numpy()).all()
        assert np.isnan(F.cross_entropy(row[None], [0]).item())
    assert np.isnan(F.softmax(np.array([np.inf, 1.0], np.float32)).numpy()).any()


@pytest.mark.parametrize("value", [-np.inf, -5.0])
def test_n2_padding_never_wins(backend: Backend, value: float) -> None:
    x = np.full((1, 3, 3, 1), value, np.float32)
    assert (F.max_pool2d(x, 3, stride=1, padding=1).numpy() == value).all()
    assert (F.min_pool2d(-x, 3, stride=1, padding=1).numpy() == -value).all()


@pytest.mark.parametrize("pool", [F.max_pool2d, F.min_pool2d])
def test_n3_ties_go_to_the_first_in_row_major_order(backend: Backend, pool: Any) -> None:
    x = tensor(np.ones((1, 4, 4, 1), np.float32), requires_grad=True)
    pool(x, 3, stride=1).backward(np.array([[1.0, 2.0], [4.0, 8.0]], np.float32).reshape(1, 2, 2, 1))
    expected = np.zeros((4, 4))
    expected[:2, :2] = [[1, 2], [4, 8]]
    np.testing.assert_array_equal(backend.to_host(x.grad)[0, :, :, 0], expected)


def test_s8_rectangles_strides_beyond_the_window_and_one_pixel(backend: Backend) -> None:
    x, w = normal(2, 5, 3, 2), normal(3, 5, 3, 2, seed=1)
    whole = np.einsum("nhwc,khwc->nk", x, w)
    np.testing.assert_allclose(F.conv2d(x, w).numpy()[:, 0, 0], whole, rtol=1e-12)
    dots = F.conv2d(x, w[:, :1, :1], stride=(3, 2)).numpy()
    np.testing.assert_allclose(dots, np.einsum("nhwc,kc->nhwk", x[:, ::3, ::2], w[:, 0, 0]), rtol=1e-12)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_s12_misaligned_arrays_equal_aligned_ones(backend: Backend, offset: int) -> None:
    """A contiguous part of an array may start anywhere, not only at multiples of 16 bytes."""
    count = 4 * 4 * 4
    base = normal(offset + count, dtype="float32")
    shifted = as_tensor(backend.from_host(base)[offset:].reshape(1, 4, 4, 4), backend)
    aligned = tensor(base[offset:].reshape(1, 4, 4, 4))
    w = normal(4, 1, 1, 4, seed=1, dtype="float32")
    for compute in (lambda x: F.conv2d(x, w), lambda x: F.max_pool2d(x, 2), F.gelu, lambda x: x + x, lambda x: x * 2.0):
        results = []
        for x in (shifted, aligned):
            x.requires_grad = True
            x.zero_grad()
            y = compute(x)
            y.backward(np.ones(y.shape, np.float32))
            results.append((y.numpy(), backend.to_host(x.grad)))
        np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
        np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-6)


@pytest.mark.parametrize("argument", range(3))
def test_s11_views_as_any_argument(backend: Backend, argument: int) -> None:
    arrays = [
        normal(2, 4, 4, 3, dtype="float32"),
        normal(5, 2, 2, 3, seed=1, dtype="float32"),
        normal(5, dtype="float32"),
    ]
    expected = F.conv2d(*arrays).numpy()
    view = np.asfortranarray(arrays[argument]) if argument < 2 else arrays[2][::-1].copy()[::-1]
    assert argument == 2 or not view.flags.c_contiguous
    given = [view if i == argument else a for i, a in enumerate(arrays)]
    np.testing.assert_array_equal(F.conv2d(*given).numpy(), expected)


def test_s15_one_array_in_two_roles(backend: Backend) -> None:
    a = normal(3, 3)
    np.testing.assert_allclose(F.linear(tensor(a), tensor(a)).numpy(), a @ a.T, rtol=1e-12)
    check_gradients(lambda x: F.linear(x, x, x.reshape(9).reshape(3, 3).sum(0)), [a], backend)
    z = tensor(a, requires_grad=True)
    F.binary_cross_entropy(z, z.detach(), reduction="sum").backward()
    np.testing.assert_allclose(backend.to_host(z.grad), 1 / (1 + np.exp(-a)) - a, rtol=1e-12)


def test_s16_tensors_beyond_31_bits_are_refused_before_any_launch(backend: Backend) -> None:
    """One image, one matrix: kernels count in int within them. What is refused is never allocated."""
    x, w = normal(1, 9, 8, 1, dtype="float32"), normal(1, 1, 1, 1, dtype="float32")
    tall = tensor(normal(50000, 1, dtype="float32"))
    for compute in (
        lambda: F.conv2d(x, w, padding=2**16),
        lambda: F.conv2d(x, w, padding=2**31 - 1),
        lambda: F.pad2d(x, 2**16),
        lambda: tall @ tall.reshape(1, 50000),
        lambda: F.linear(tall, tall),
    ):
        with pytest.raises(ValueError, match="too large: more than 2147483647"):
            compute()


def test_s4_a_dilation_beyond_the_image_is_refused(backend: Backend) -> None:
    for dilation in (2**31 - 1, 2**31):
        with pytest.raises(ValueError, match="does not fit|dilation must be an integer"):
            F.conv2d(normal(1, 4, 4, 1), normal(1, 2, 2, 1), dilation=dilation)


def test_s7_images_of_nothing_are_refused(backend: Backend) -> None:
    for shape in ((1, 0, 4, 2), (1, 4, 0, 2), (1, 4, 4, 0)):
        with pytest.raises(ValueError, match="at least one row, column and channel, got shape"):
            F.conv2d(np.zeros(shape), np.zeros((1, 1, 1, shape[3])))
        with pytest.raises(ValueError, match="at least one row, column and channel, got shape"):
            F.max_pool2d(np.zeros(shape), 1)


def test_s17_batches_beyond_65535(backend: Backend) -> None:
    n = 65537
    x = np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1) % 97
    same(F.conv2d(x, np.full((1, 1, 1, 1), 2.0, np.float32)), x * 2)
    same(F.max_pool2d(x, 1), x)
    same(F.linear(x.reshape(n, 1), np.full((1, 1), 2.0, np.float32)), x.reshape(n, 1) * 2)


def test_s18_a_batch_of_one(backend: Backend) -> None:
    x, w = normal(3, 4, 4, 2), normal(2, 3, 3, 2, seed=1)
    whole = F.conv2d(x, w).numpy()
    np.testing.assert_allclose(np.concatenate([F.conv2d(x[i : i + 1], w).numpy() for i in range(3)]), whole, rtol=1e-12)


def test_s19_a_batch_changed_between_the_passes_does_not_matter(backend: Backend) -> None:
    """Each graph keeps its own inputs, unlike layers that remember the last batch."""
    w = tensor(normal(2, 3), requires_grad=True)
    one, two = normal(4, 3), normal(5, 3, seed=1)
    first, second = F.linear(one, w), F.linear(two, w)
    first.backward(np.ones((4, 2)))
    np.testing.assert_allclose(backend.to_host(w.grad), np.ones((2, 4)) @ one, rtol=1e-12)
    w.zero_grad()
    second.backward(np.ones((5, 2)))
    np.testing.assert_allclose(backend.to_host(w.grad), np.ones((2, 5)) @ two, rtol=1e-12)
