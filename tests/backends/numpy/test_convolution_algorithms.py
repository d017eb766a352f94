"""Every algorithm of the NumPy convolution against the definition, also in blocks cut as small as they go."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases.conv2d import CASES
from operations.test_conv2d import OPERATIONS, arrays, check, definition, run

from gpucnn.backends import Backend, get_backend
from gpucnn.backends.numpy_backend import columns, taps, tiles
from gpucnn.specs import Conv2dSpec


@pytest.fixture
def backend() -> Backend:
    return get_backend("numpy")


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "COLUMN_BYTES", 1)
    monkeypatch.setattr(columns, "LEAST_POSITIONS", 5)
    monkeypatch.setattr(taps, "BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(tiles, "BLOCK_BYTES", 1)
    monkeypatch.setattr(tiles, "LEAST_TILES", 3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_algorithm_computes_the_definition(backend, operation, case, dtype):
    for algorithm in backend.algorithms(operation, CASES[case](dtype)):
        check(backend, operation, case, dtype, algorithm)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_blocks_of_parts_of_rows_give_the_same_result(backend, tiny_blocks, operation, case):
    for algorithm in backend.algorithms(operation, CASES[case]("float32")):
        check(backend, operation, case, "float32", algorithm)


# Paths of this backend that the shared cases do not reach.
OWN_CASES = {
    "one_channel": ((3, 9, 8, 1), (6, 3, 2, 1), {"padding": ((1, 2), (0, 1)), "dilation": (2, 1), "flip": True}),
    "one_channel_strided": ((2, 9, 12, 1), (8, 3, 3, 1), {"stride": (2, 3), "padding": 1}),
    "one_channel_gap": ((2, 6, 14, 1), (5, 2, 3, 1), {"dilation": (1, 4), "padding": ((0, 0), (3, 2))}),
    "depthwise_two_filters": ((2, 7, 6, 5), (10, 3, 2, 1), {"groups": 5, "padding": 1, "stride": (1, 2)}),
    "depthwise_many_filters": ((2, 5, 6, 3), (18, 2, 3, 1), {"groups": 3, "padding": 1, "flip": True}),
    "narrow_input": ((2, 8, 7, 2), (24, 3, 3, 2), {"padding": 1, "stride": (2, 1)}),
    "pointwise_padded": ((2, 5, 4, 3), (4, 1, 1, 3), {"padding": ((1, 0), (2, 1))}),
    "bands": ((3, 7, 12, 2), (3, 3, 5, 2), {"padding": ((1, 0), (2, 4)), "bias": True, "activation": "relu"}),
    "bands_strided": ((2, 9, 20, 2), (6, 3, 5, 2), {"stride": (2, 1), "dilation": (1, 2), "flip": True}),
    "bands_beyond_image": ((2, 5, 6, 2), (5, 3, 5, 2), {"padding": ((2, 5), (6, 4)), "bias": True}),
    "bands_of_a_stride": ((2, 8, 23, 3), (8, 3, 7, 3), {"stride": (3, 2), "padding": ((0, 0), (1, 0))}),
    "bands_of_a_row": ((2, 6, 7, 2), (9, 2, 3, 2), {}),
    "tiles_in_part": ((3, 11, 9, 8), (12, 3, 3, 8), {"padding": ((1, 0), (2, 3)), "flip": True, "bias": True}),
    "tiles_beyond_image": (
        (2, 3, 4, 9),
        (8, 3, 3, 9),
        {"padding": ((4, 2), (0, 3)), "bias": True, "activation": "relu"},
    ),
    "one_tile": ((1, 3, 3, 8), (8, 3, 3, 8), {}),
    "wide_filters_in_tiles": ((2, 11, 9, 16), (17, 5, 5, 16), {"padding": ((2, 1), (0, 5)), "flip": True}),
    "blocks_of_tiles": ((5, 30, 34, 8), (9, 3, 3, 8), {"padding": 1}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("case", OWN_CASES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_own_paths_compute_the_definition(backend, operation, case, dtype):
    x_shape, weight_shape, options = OWN_CASES[case]
    spec = Conv2dSpec.of(x_shape, weight_shape, dtype, **options)
    given = arrays(spec)
    wanted = definition(operation, spec, given)
    for algorithm in backend.algorithms(operation, spec):
        harness.compare(run(backend, operation, spec, given, algorithm), wanted, spec, spec.terms(operation))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("rest", range(6))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_rows_of_tiles_end_with_a_smaller_one(backend, monkeypatch, operation, rest, apart):
    """Results that fill the tiles but for `rest` down, and another number across; also fewer than a tile has.

    Tiles of all sizes together, as those of a few images are, and each size apart, as those of many.
    """
    monkeypatch.setattr(tiles, "LEAST_TILES", 8 if apart else 10_000)
    for height, width in ((20 + rest, 20 + (5 * rest + 2) % 6), (20 + rest, 1 + rest)):
        size = (height, width) if operation == "conv2d_backward_input" else (height + 2, width + 2)
        spec = Conv2dSpec.of((2, *size, 16), (18, 3, 3, 16), "float32", padding=int("input" in operation))
        given = arrays(spec)
        wanted = definition(operation, spec, given)
        tiled = [name for name in backend.algorithms(operation, spec) if name.startswith("winograd")]
        most = {True: "winograd_6x6", False: "winograd_4x6"}[operation == "conv2d_backward_weight"]
        assert "winograd_2x2" in tiled and (most in tiled or width < 20)
        for algorithm in tiled:
            harness.compare(run(backend, operation, spec, given, algorithm), wanted, spec, spec.terms(operation))


def test_algorithms_fit_the_shape(backend):
    narrow = Conv2dSpec.of((64, 8, 8, 2), (32, 3, 3, 2), "float32")
    square = Conv2dSpec.of((64, 8, 8, 16), (16, 3, 3, 16), "float32")
    wide = Conv2dSpec.of((64, 8, 8, 64), (64, 3, 3, 64), "float32", padding=1)
    tiny = Conv2dSpec.of((256, 4, 4, 256), (256, 3, 3, 256), "float32")
    grouped = Conv2dSpec.of((64, 8, 8, 16), (16, 3, 3, 4), "float32", groups=4)
    depthwise = Conv2dSpec.of((64, 8, 8, 16), (32, 3, 3, 1), "float32", groups=16)
    assert backend.algorithms("conv2d_backward_input", narrow) == (
        *("col2im", "im2col", "taps"),
        *("winograd_2x2", "winograd_4x4", "winograd_4x6"),
    )
    assert backend.algorithms("conv2d_backward_input", square) == (
        *("im2col", "col2im", "taps", "bands"),
        *("winograd_2x2", "winograd_4x4", "winograd_4x6"),
    )
    assert backend.algorithms("conv2d_forward", narrow) == ("im2col", "taps", "winograd_2x2")
    steps = [f"winograd_{step}" for step in ("6x6", "4x6", "4x4", "2x2")]
    assert backend.algorithms("conv2d_forward", wide) == (*steps[1:], "im2col", "taps")
    assert backend.algorithms("conv2d_forward", tiny) == (*(steps[3], *steps[1:3]), "im2col", "taps")
    assert backend.algorithms("conv2d_backward_weight", tiny) == ("winograd_2x2", "im2col", "taps")
    assert backend.algorithms("conv2d_backward_input", grouped) == ("im2col", "taps")
    assert backend.algorithms("conv2d_forward", grouped) == ("im2col", "taps")
    assert backend.algorithms("conv2d_backward_weight", depthwise) == ("taps", "im2col")
    from_sums = Conv2dSpec.of((64, 9, 9, 16), (48, 3, 3, 16), "float32")
    assert backend.algorithms("conv2d_backward_input", from_sums)[0] == "col2im"
    few_tiles = Conv2dSpec.of((64, 12, 12, 24), (32, 3, 3, 24), "float32")
    assert backend.algorithms("conv2d_backward_input", few_tiles)[0] == "winograd_4x6"
    assert backend.algorithms("conv2d_forward", few_tiles)[0] == "im2col"
    large = Conv2dSpec.of((64, 32, 32, 64), (64, 3, 3, 64), "float32")
    assert backend.algorithms("conv2d_backward_weight", large) == (*steps, "im2col", "taps")
    assert backend.algorithms("conv2d_forward", large) == (*steps[1:], "im2col", "taps")
    wide = Conv2dSpec.of((64, 24, 24, 32), (32, 5, 5, 32), "float32")
    assert backend.algorithms("conv2d_forward", wide)[0] == "winograd_4x4"
    lenet = Conv2dSpec.of((64, 14, 14, 6), (16, 5, 5, 6), "float32")
    for operation in OPERATIONS:
        assert backend.algorithms(operation, lenet)[0] == "bands"
    for other in ({"stride": (1, 2)}, {"dilation": (2, 1)}, {"weight_shape": (64, 3, 2, 64)}, {"activation": "tanh"}):
        spec = Conv2dSpec.of(**{"x_shape": (64, 8, 8, 64), "weight_shape": (64, 3, 3, 64), "dtype": "float32", **other})
        assert backend.algorithms("conv2d_forward", spec) == ("im2col", "taps")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_filters_are_not_transformed_for_a_few_small_images(backend, operation):
    def chosen(n: int, image: int) -> str:
        spec = Conv2dSpec.of((n, image, image, 64), (64, 3, 3, 64), "float32", padding=1)
        return backend.algorithms(operation, spec)[0]

    assert chosen(1, 14) == chosen(4, 14) == "im2col"
    assert chosen(16, 14) == "winograd_4x6"
    assert chosen(1, 28) == "winograd_4x4"


def test_an_unknown_algorithm_is_refused_with_those_there_are(backend):
    spec = CASES["pointwise"]("float32")
    given = arrays(spec)
    with pytest.raises(
        ValueError, match="conv2d_forward: the numpy backend has no algorithm 'winograd_4x4'; it has im2col, taps"
    ):
        run(backend, "conv2d_forward", spec, given, "winograd_4x4")
    with pytest.raises(ValueError, match="unknown operation 'conv3d_forward'"):
        backend.algorithms("conv3d_forward", spec)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("case", ["padded_vector", "all_different", "groups_2", "depthwise", "padding_beyond_filter"])
def test_padding_is_not_multiplied_with_infinities(backend, operation, case):
    """Where the other factor is infinite or NaN, a tap in the padding adds nothing, as in the kernels."""
    spec = CASES[case]("float32")
    given = {name: array.copy() for name, array in arrays(spec).items()}
    poisoned = given["dy" if operation == "conv2d_backward_weight" else "weight"]
    poisoned[0, 0, 0, 0], poisoned[-1, -1, -1, -1] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        wanted = definition(operation, spec, given)
        for algorithm in backend.algorithms(operation, spec):
            result = run(backend, operation, spec, given, algorithm)
            np.testing.assert_array_equal(np.isnan(result), np.isnan(wanted), err_msg=algorithm)
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(np.isfinite(result), finite, err_msg=algorithm)
            np.testing.assert_allclose(result[finite], wanted[finite], rtol=1e-4, atol=1e-4, err_msg=algorithm)


@pytest.mark.parametrize("algorithm", ["winograd_4x6", "winograd_4x4", "winograd_2x2", "bands"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_not_finite_does_not_spread(backend, tiny_blocks, operation, algorithm):
    """An infinity and a NaN in the middle of one image: the others keep their bits, it alone is done again."""
    size, c = (10, 8) if algorithm == "bands" else (11, 16)
    spec = Conv2dSpec.of((4, size, size, c), (c, 3, 3, c), "float32", padding=1, bias=True, activation="relu")
    given = arrays(spec)
    poisoned = {**given, "x": given["x"].copy(), "dy": given["dy"].copy()}
    for name in ("x", "dy"):
        poisoned[name][2, 5, 4, 1], poisoned[name][2, 1, 7, 0] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        wanted = definition(operation, spec, poisoned)
        result = run(backend, operation, spec, poisoned, algorithm)
    harness.compare(result, wanted, spec, spec.terms(operation))
    if operation != "conv2d_backward_weight":
        whole = run(backend, operation, spec, given, algorithm)
        np.testing.assert_array_equal(result[[0, 1, 3]], whole[[0, 1, 3]])


@pytest.mark.parametrize("operation", ["conv2d_forward", "conv2d_backward_input"])
def test_tiles_of_numbers_too_large_to_transform_are_done_again(backend, operation):
    spec = Conv2dSpec.of((2, 6, 6, 8), (8, 3, 3, 8), "float32", padding=1)
    given = {name: array.copy() for name, array in arrays(spec).items()}
    for name in ("x", "dy"):
        given[name][1] = np.where(given[name][1] > 0, np.float32(1e38), np.float32(-1e38))
    given["weight"] *= np.float32(1e-3)
    wanted = definition(operation, spec, given)
    for algorithm in ("winograd_4x4", "winograd_2x2"):
        harness.compare(run(backend, operation, spec, given, algorithm), wanted, spec, spec.terms(operation))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_are_the_same_from_run_to_run(backend, operation):
    spec = Conv2dSpec.of((5, 20, 20, 16), (24, 3, 3, 16), "float32", padding=1)
    given = arrays(spec)
    for algorithm in backend.algorithms(operation, spec):
        first = run(backend, operation, spec, given, algorithm)
        for _ in range(3):
            np.testing.assert_array_equal(run(backend, operation, spec, given, algorithm), first)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_out_is_written_whole_and_returned(backend, operation):
    spec = CASES["stride_beyond_filter"]("float32")
    given = arrays(spec)
    shape = {"conv2d_forward": spec.y_shape, "conv2d_backward_input": spec.x_shape}.get(operation, spec.weight_shape)
    names = {"conv2d_forward": ("x", "weight", "bias"), "conv2d_backward_input": ("dy", "weight")}
    inputs = [given[name] for name in names.get(operation, ("dy", "x"))]
    for algorithm in backend.algorithms(operation, spec):
        out = np.full(shape, np.nan, "float32")
        assert getattr(backend, operation)(*inputs, spec, out=out, algorithm=algorithm) is out
        np.testing.assert_array_equal(out, run(backend, operation, spec, given, algorithm))
        with pytest.raises(ValueError, match=r"out must have shape"):
            getattr(backend, operation)(*inputs, spec, out=np.empty((1, *shape), "float32"), algorithm=algorithm)
