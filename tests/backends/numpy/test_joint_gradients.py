"""Both gradients of a convolution from the same tiles of dy, against the definition."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from operations.test_conv2d import arrays, definition

from gpucnn.autograd import tensor
from gpucnn.backends import Backend, get_backend
from gpucnn.backends.numpy_backend import NumpyBackend, convolution, tiles, winograd_gradients
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.workers import Workers
from gpucnn.functional import conv2d
from gpucnn.specs import Conv2dSpec

from .test_threads import Setting

GRADIENTS = ("conv2d_backward_input", "conv2d_backward_weight")
STEPS = ((4, 4), (4, 6))

CASES = {
    "whole_tiles": ((2, 10, 14, 16), (18, 3, 3, 16), {}),
    "padded": ((3, 12, 11, 9), (16, 3, 3, 9), {"padding": 1}),
    "asymmetric": ((3, 11, 9, 8), (12, 3, 3, 8), {"padding": ((1, 0), (2, 3)), "flip": True}),
    "beyond_image": ((2, 3, 4, 9), (8, 3, 3, 9), {"padding": ((4, 2), (0, 3))}),
    "one_tile": ((1, 3, 3, 8), (8, 3, 3, 8), {}),
    "one_row": ((2, 3, 30, 8), (9, 3, 3, 8), {}),
    "one_channel": ((5, 9, 8, 1), (6, 3, 3, 1), {}),
    "wide_filters": ((2, 11, 9, 16), (17, 5, 5, 16), {"padding": ((2, 1), (0, 5)), "flip": True}),
    "wide_filters_whole_tiles": ((2, 12, 16, 8), (8, 5, 5, 8), {}),
}


@pytest.fixture
def backend() -> Backend:
    return get_backend("numpy")


@pytest.fixture
def image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd_gradients, "BLOCK_BYTES", 1)
    monkeypatch.setattr(tiles, "LEAST_TILES", 1)


def spec_of(case: str, dtype: str = "float32") -> Conv2dSpec:
    x_shape, weight_shape, options = CASES[case]
    return Conv2dSpec.of(x_shape, weight_shape, dtype, **options)


def joined(spec: Conv2dSpec, given: dict[str, np.ndarray], step: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return dx and dw by tiles of one step, also where another or none is chosen."""
    operands = given["dy"], given["x"], given["weight"]
    with np.errstate(all="ignore"):
        return convolution.backward_operands(*operands, spec, step, (None, None), Scratch())


def check(spec: Conv2dSpec, given: dict[str, np.ndarray], step: tuple[int, int]) -> None:
    for operation, found in zip(GRADIENTS, joined(spec, given, step), strict=True):
        harness.compare(found, definition(operation, spec, given), spec, spec.terms(operation))


def steps_of(spec: Conv2dSpec) -> list[tuple[int, int]]:
    return [step for step in STEPS if spec.r == 3 or step == (4, 4)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("case", CASES)
def test_tiles_compute_the_definition(case, dtype):
    spec = spec_of(case, dtype)
    for step in steps_of(spec):
        check(spec, arrays(spec), step)


@pytest.mark.parametrize("case", CASES)
def test_so_do_images_one_by_one(image_by_image, case):
    spec = spec_of(case)
    for step in steps_of(spec):
        check(spec, arrays(spec), step)


@pytest.mark.parametrize("rest", range(6))
def test_rows_of_tiles_end_with_a_smaller_one(rest):
    for height, width in ((10 + rest, 10 + (5 * rest + 2) % 6), (10 + rest, 3 + rest)):
        spec = Conv2dSpec.of((2, height, width, 16), (18, 3, 3, 16), "float32")
        for step in STEPS:
            check(spec, arrays(spec), step)


@pytest.mark.parametrize("channels, filters, size, image", [(8, 32, 3, 12), (4, 64, 3, 18), (2, 32, 5, 24)])
def test_a_mean_of_dy_leaves_errors_within_the_tolerance(channels, filters, size, image):
    """It adds up in the places, and cancels in dx."""
    spec = Conv2dSpec.of((4, image, image, channels), (filters, size, size, channels), "float32")
    rng = np.random.default_rng(0)
    given = {**arrays(spec), "dy": rng.random(spec.y_shape, np.float32), "x": rng.random(spec.x_shape, np.float32)}
    steps = winograd_gradients.joint_steps(spec)
    assert steps == steps_of(spec)
    for step in steps:
        check(spec, given, step)


@pytest.mark.parametrize("where", ["dy", "x", "weight"])
@pytest.mark.parametrize("step", STEPS)
def test_what_is_not_finite_does_not_spread(image_by_image, step, where):
    spec = Conv2dSpec.of((4, 11, 11, 16), (16, 3, 3, 16), "float32", padding=1)
    given = arrays(spec)
    poisoned = {**given, where: given[where].copy()}
    poisoned[where][2, 1, 2, 1], poisoned[where][2, 2, 0, 0] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        wanted = [definition(operation, spec, poisoned) for operation in GRADIENTS]
    found = joined(spec, poisoned, step)
    for operation, result, expected in zip(GRADIENTS, found, wanted, strict=True):
        harness.compare(result, expected, spec, spec.terms(operation))
    if where == "dy":
        np.testing.assert_array_equal(found[0][[0, 1, 3]], joined(spec, given, step)[0][[0, 1, 3]])


@pytest.mark.parametrize("step", STEPS)
def test_numbers_too_large_to_transform_are_done_again(step):
    spec = Conv2dSpec.of((2, 12, 12, 8), (8, 3, 3, 8), "float32", padding=1)
    given = arrays(spec)
    given["dy"] = np.where(given["dy"] > 0, np.float32(1e37), np.float32(-1e37))
    given["weight"], given["x"] = given["weight"] * np.float32(1e-3), given["x"] * np.float32(1e-3)
    check(spec, given, step)


def test_bits_depend_neither_on_the_run_nor_on_threads(image_by_image, monkeypatch):
    spec = Conv2dSpec.of((9, 14, 14, 16), (24, 3, 3, 16), "float32", padding=1)
    given = arrays(spec)
    first = joined(spec, given, (4, 6))
    for count in (1, 2, 5):
        monkeypatch.setattr(winograd_gradients, "workers", Workers(Setting(count).threads()))
        for found, expected in zip(joined(spec, given, (4, 6)), first, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_no_images_have_gradients_of_zero():
    spec = Conv2dSpec.of((0, 16, 16, 8), (8, 3, 3, 8), "float32")
    dx, dw = joined(spec, arrays(spec), (4, 6))
    assert dx.shape == spec.x_shape
    np.testing.assert_array_equal(dw, np.zeros(spec.weight_shape, "float32"))


def test_given_outputs_are_written_whole_and_returned(backend):
    spec = Conv2dSpec.of((8, 16, 16, 64), (64, 3, 3, 64), "float32", flip=True)
    assert backend.joins_gradients(spec)
    given = arrays(spec)
    operands, shapes = (given["dy"], given["x"], given["weight"]), (spec.x_shape, spec.weight_shape)
    fresh = backend.conv2d_backward_operands(*operands, spec)
    outputs = [np.full(shape, np.nan, "float32") for shape in shapes]
    for place in range(2):
        asked = [out if i == place else None for i, out in enumerate(outputs)]
        written = backend.conv2d_backward_operands(*operands, spec, out=tuple(asked))
        assert written[place] is outputs[place]
        for found, expected in zip(written, fresh, strict=True):
            np.testing.assert_array_equal(found, expected)
        asked[place] = np.empty((1, 2), "float32")
        with pytest.raises(ValueError, match=r"out must have shape \("):
            backend.conv2d_backward_operands(*operands, spec, out=tuple(asked))


def test_they_are_joined_where_that_costs_less(backend):
    def step(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], **options) -> tuple[int, int] | None:
        spec = Conv2dSpec.of(x_shape, weight_shape, "float32", **options)
        assert backend.joins_gradients(spec) == (convolution.joint_step(spec) is not None)
        return convolution.joint_step(spec)

    assert step((64, 12, 12, 24), (32, 3, 3, 24)) == (4, 6)
    assert step((64, 16, 16, 64), (64, 3, 3, 64)) == (4, 6)
    assert step((64, 24, 24, 32), (32, 5, 5, 32)) == (4, 4)
    assert step((64, 24, 24, 32), (32, 5, 5, 32), activation="sigmoid") == (4, 4)
    assert step((64, 14, 14, 6), (16, 5, 5, 6)) is None, "bands are quicker"
    assert step((64, 28, 28, 1), (32, 5, 5, 1)) is None, "so is im2col"
    assert step((1, 16, 16, 64), (64, 3, 3, 64)) is None, "also for few images"
    assert step((64, 16, 16, 64), (16, 3, 3, 64)) is None, "sums that a mean of dy would show in"
    assert step((64, 512, 512, 64), (64, 3, 3, 64)) is None, "too large an image"
    assert step((64, 16, 16, 64), (64, 3, 3, 64), stride=2) is None
    assert step((64, 16, 16, 64), (64, 3, 3, 32), groups=2) is None
    assert step((64, 16, 16, 64), (64, 1, 1, 64)) is None


class Counting(NumpyBackend):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def conv2d_backward_input(self, *arguments, **options):
        self.asked.append("input")
        return super().conv2d_backward_input(*arguments, **options)

    def conv2d_backward_weight(self, *arguments, **options):
        self.asked.append("weight")
        return super().conv2d_backward_weight(*arguments, **options)

    def conv2d_backward_operands(self, *arguments, **options):
        self.asked.append("operands")
        return super().conv2d_backward_operands(*arguments, **options)


@pytest.mark.parametrize("of_input, of_weight", [(True, True), (True, False), (False, True)])
def test_a_backward_pass_joins_what_it_wants_both_of(of_input, of_weight):
    backend = Counting()
    spec = Conv2dSpec.of((8, 16, 16, 64), (64, 3, 3, 64), "float32", bias=True)
    given = arrays(spec)
    x = tensor(given["x"], backend=backend, requires_grad=of_input)
    weight = tensor(given["weight"], backend=backend, requires_grad=of_weight)
    bias = tensor(given["bias"], backend=backend, requires_grad=True)
    for _ in range(2):  # the second adds to the first, once in place
        conv2d(x, weight, bias).backward(given["dy"])
    wanted = ["operands"] if of_input and of_weight else ["input"] if of_input else ["weight"]
    assert backend.asked == 2 * wanted
    for operation, leaf in zip(GRADIENTS, (x, weight), strict=True):
        if leaf.requires_grad:
            harness.compare(leaf.grad, 2 * definition(operation, spec, given), spec, spec.terms(operation))


def test_a_named_algorithm_has_each_gradient_by_itself():
    backend = Counting()
    spec = Conv2dSpec.of((8, 16, 16, 64), (64, 3, 3, 64), "float32")
    given = arrays(spec)
    x, weight = (tensor(given[name], backend=backend, requires_grad=True) for name in ("x", "weight"))
    conv2d(x, weight, algorithm="im2col").backward(given["dy"])
    assert backend.asked == ["weight", "input"]
