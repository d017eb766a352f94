"""WORKED_EXAMPLES.md: the numbers of the source material, recomputed, on every backend. Its slips are named SEED ERROR.

A2.2, sizes, is in specs/test_conv2d_spec.py; A2.5 and A2.6, whole models, are in test_zoo.py; the 3-D row of A2.7
waits for 3-D.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends import Backend

SEED_IMAGE = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]], np.float32)
SEED_FILTER = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.float32)
ASYMMETRIC = np.array([[1, 2, 0], [0, 1, 0], [0, 0, 3]], np.float32)
USUAL = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
"""The seed lost its figure; this input, the usual one of cs231n, is consistent with its result."""


def image(rows: Any, requires_grad: bool = False) -> Tensor:
    """Return (1, H, W, 1) from rows."""
    array = np.asarray(rows, np.float32)
    return tensor(array[None, :, :, None], requires_grad=requires_grad)


def filters(rows: Any, requires_grad: bool = False) -> Tensor:
    return image(rows, requires_grad)


def rows_of(found: Any) -> list[Any]:
    """Return the rows of (1, H, W, 1)."""
    array = np.asarray(found)
    assert array.shape[0] == array.shape[3] == 1
    return array[0, :, :, 0].tolist()


def gradient(backend: Backend, t: Tensor) -> list[Any]:
    return rows_of(backend.to_host(t.grad))


# -- A2.1 -------------------------------------------------------------------------------------------------------------
def test_a2_1_convolution(backend: Backend) -> None:
    """SEED ERROR 004: the seed prints the first row as 4 3 3; the right value is 4 3 4."""
    y = rows_of(F.conv2d(image(SEED_IMAGE), filters(SEED_FILTER)))
    assert y == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]
    assert y[0] != [4, 3, 3]


def test_a2_1_an_asymmetric_filter_tells_correlation_from_convolution(backend: Backend) -> None:
    """The seed's filter is symmetric under rotation by 180 degrees, so it cannot."""
    assert rows_of(F.conv2d(image(SEED_IMAGE), filters(ASYMMETRIC))) == [[7, 7, 5], [5, 7, 4], [3, 3, 4]]
    assert rows_of(F.conv2d(image(SEED_IMAGE), filters(ASYMMETRIC), flip=True)) == [[5, 7, 7], [1, 7, 6], [3, 3, 4]]
    assert rows_of(F.conv2d(image(SEED_IMAGE), filters(SEED_FILTER), flip=True)) == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"stride": 2}, [[4, 4], [2, 4]]),
        ({"padding": 1}, [[2, 2, 3, 1, 1], [1, 4, 3, 4, 1], [1, 2, 4, 3, 3], [1, 2, 3, 4, 1], [0, 2, 2, 1, 1]]),
        ({"stride": 2, "padding": 1}, [[2, 3, 1], [1, 4, 3], [0, 2, 1]]),
        ({"dilation": 2}, [[2]]),
        ({"dilation": 2, "padding": 1}, [[2, 1, 1], [0, 2, 3], [1, 1, 2]]),
    ],
)
def test_a2_1_strides_padding_and_dilation(backend: Backend, options: dict[str, int], expected: list[Any]) -> None:
    assert rows_of(F.conv2d(image(SEED_IMAGE), filters(SEED_FILTER), **options)) == expected


def test_a2_1_full_padding(backend: Backend) -> None:
    y = rows_of(F.conv2d(image(SEED_IMAGE), filters(SEED_FILTER), padding=2))
    assert len(y) == 7 and y[0] == [1, 1, 2, 1, 1, 0, 0]


@pytest.mark.parametrize(
    "dy, dx, dw, db",
    [
        (
            np.ones((3, 3)),
            [[1, 1, 2, 1, 1], [1, 2, 3, 2, 1], [2, 3, 5, 3, 2], [1, 2, 3, 2, 1], [1, 1, 2, 1, 1]],
            [[6, 7, 6], [4, 7, 7], [4, 6, 6]],
            9,
        ),
        (
            np.arange(1, 10).reshape(3, 3),
            [[1, 2, 4, 2, 3], [4, 6, 12, 8, 6], [8, 14, 25, 16, 12], [4, 12, 18, 14, 6], [7, 8, 16, 8, 9]],
            [[26, 35, 34], [20, 34, 33], [26, 31, 22]],
            45,
        ),
    ],
    ids=["ones", "1to9"],
)
def test_a2_1_backward(backend: Backend, dy: np.ndarray, dx: Any, dw: Any, db: float) -> None:
    x, w, b = image(SEED_IMAGE, True), filters(SEED_FILTER, True), tensor([0.0], requires_grad=True)
    F.conv2d(x, w, b).backward(dy.astype(np.float32)[None, :, :, None])
    assert gradient(backend, x) == dx
    assert gradient(backend, w) == dw
    assert backend.to_host(b.grad).tolist() == [db]


# -- A2.3 -------------------------------------------------------------------------------------------------------------
def test_a2_3_one_dimension_and_its_backward_pass(backend: Backend) -> None:
    """O1 = X1 W1 + X2 W2 + X3 W3, O2 contains X3 W2, O3 X3 W1.

    Hence dX3 = d1 W3 + d2 W2 + d3 W1 and dW1 = d1 X1 + d2 X2 + d3 X3.
    """
    x = tensor(np.arange(1, 6, dtype=np.float32).reshape(1, 5, 1), requires_grad=True)
    w = tensor(np.array([10, 20, 30], np.float32).reshape(1, 3, 1), requires_grad=True)
    y = F.conv1d(x, w)
    assert y.numpy().ravel().tolist() == [140, 200, 260]
    y.backward(np.array([1, 10, 100], np.float32).reshape(1, 3, 1))
    assert backend.to_host(x.grad).ravel().tolist() == [10, 120, 1230, 2300, 3000]
    assert backend.to_host(w.grad).ravel().tolist() == [321, 432, 543]


# -- A2.4 -------------------------------------------------------------------------------------------------------------
POOLED = {
    ("max", 2): [[6, 8], [3, 4]],
    ("avg", 2): [[3.25, 5.25], [2, 2]],
    ("min", 2): [[1, 2], [1, 0]],
    ("max", 1): [[6, 7, 8], [6, 7, 8], [3, 3, 4]],
    ("avg", 1): [[3.25, 4, 5.25], [4, 4, 4], [2, 2, 2]],
    ("min", 1): [[1, 1, 2], [2, 1, 0], [1, 1, 0]],
}


@pytest.mark.parametrize("kind, stride", POOLED)
def test_a2_4_pooling(backend: Backend, kind: str, stride: int) -> None:
    pool = getattr(F, f"{kind}_pool2d")
    assert rows_of(pool(image(USUAL), 2, stride=stride)) == POOLED[kind, stride]


def test_a2_4_backward(backend: Backend) -> None:
    dy = np.array([[1, 2], [3, 4]], np.float32)
    x = image(USUAL, True)
    F.max_pool2d(x, 2).backward(dy[None, :, :, None])
    assert gradient(backend, x) == [[0, 0, 0, 0], [0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 0, 4]]
    x = image(USUAL, True)
    F.avg_pool2d(x, 2).backward(dy[None, :, :, None])
    assert gradient(backend, x) == np.kron(dy / 4, np.ones((2, 2))).tolist()


def test_a2_4_ties_go_to_the_first(backend: Backend) -> None:
    x = image(np.ones((4, 4)), True)
    F.max_pool2d(x, 2).backward(np.ones((1, 2, 2, 1), np.float32))
    assert gradient(backend, x) == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    "n, k, stride, pad, floor, ceil",
    [(27, 2, 2, 0, 13, 14), (5, 2, 2, 0, 2, 3), (6, 3, 2, 0, 2, 3), (7, 3, 2, 1, 4, 4), (4, 2, 3, 1, 2, 2)],
)
def test_a2_4_floor_and_ceil(backend: Backend, n: int, k: int, stride: int, pad: int, floor: int, ceil: int) -> None:
    """The last windows hold what of the image they reach: the values say which pixels they saw."""
    x = np.arange(n * n).reshape(n, n)
    for ceil_mode, size in ((False, floor), (True, ceil)):
        y = rows_of(F.max_pool2d(image(x), k, stride=stride, padding=pad, ceil_mode=ceil_mode))
        last = [min(p * stride - pad + k, n) - 1 for p in range(size)]
        assert y == [[x[i, j] for j in last] for i in last]


def test_a2_4_average_counts_padding_or_not(backend: Backend) -> None:
    x = image(np.arange(1, 10).reshape(3, 3))
    counted = rows_of(F.avg_pool2d(x, 3, stride=1, padding=1))
    np.testing.assert_allclose(counted[0], [1.3333, 2.3333, 1.7778], atol=5e-5)
    assert rows_of(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)) == [
        [3, 3.5, 4],
        [4.5, 5, 5.5],
        [6, 6.5, 7],
    ]


# -- A2.7 -------------------------------------------------------------------------------------------------------------
def test_a2_7_softmax_and_cross_entropy(backend: Backend) -> None:
    logits = tensor([[2.0, 1.0, 0.1]], requires_grad=True)
    np.testing.assert_allclose(F.softmax(logits).numpy()[0], [0.65900, 0.24243, 0.09857], atol=5e-6)
    loss = F.cross_entropy(logits, [0])
    assert loss.item() == pytest.approx(0.417030, abs=5e-7)
    loss.backward()
    np.testing.assert_allclose(backend.to_host(logits.grad)[0], [-0.34100, 0.24243, 0.09857], atol=5e-6)


def test_a2_7_large_logits(backend: Backend) -> None:
    assert F.cross_entropy([[1000.0, 0.0, 0.0]], [1]).item() == 1000.0
    assert F.binary_cross_entropy([0.0], [1.0]).item() == pytest.approx(0.6931472, abs=5e-8)
    assert F.binary_cross_entropy([1000.0], [0.0]).item() == 1000.0


def test_a2_7_binary_cross_entropy_of_a_probability(backend: Backend) -> None:
    """p = 0.9 and target 1; the logit of p is log(p / (1 - p))."""
    p = np.float32(0.9)
    logit = [float(np.log(p / (1 - p)))]
    assert F.sigmoid(logit).item() == pytest.approx(0.9, abs=1e-6)
    assert F.binary_cross_entropy(logit, [1.0]).item() == pytest.approx(0.1053605, abs=2e-7)


def test_a2_7_sobel_on_a_vertical_step(backend: Backend) -> None:
    step = image(np.repeat([[0, 0, 0, 1, 1, 1]], 5, 0))
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    assert rows_of(F.conv2d(step, filters(sobel))) == [[0, 4, 4, 0]] * 3
    assert rows_of(F.conv2d(step, filters(sobel.T))) == [[0, 0, 0, 0]] * 3


def test_a2_7_same_padding_with_an_even_filter(backend: Backend) -> None:
    """The odd pixel goes to the right and to the bottom."""
    y = rows_of(F.conv2d(image(np.arange(16).reshape(4, 4)), filters(np.ones((2, 2))), padding="same"))
    assert y[0] == [10, 14, 18, 10] and y[3] == [25, 27, 29, 15]


def test_a2_7_same_padding_with_a_stride(backend: Backend) -> None:
    """TensorFlow's rule pads 0 on the left and 1 on the right; symmetric padding gives other numbers."""
    x, ones = image(np.arange(16).reshape(4, 4)), filters(np.ones((3, 3)))
    assert rows_of(F.conv2d(x, ones, padding="same", stride=2)) == [[45, 39], [66, 50]]
    assert rows_of(F.conv2d(x, ones, padding=1, stride=2)) == [[10, 24], [51, 90]]
