"""What the NumPy backend does with arrays, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest

from gpucnn.backends.numpy_backend import NumpyBackend
from gpucnn.devices.allocations import AllocationLog
from gpucnn.errors import DeviceError
from gpucnn.specs import ActivationSpec, Pool2dSpec, SoftmaxSpec


@pytest.fixture
def backend() -> NumpyBackend:
    return NumpyBackend()


@pytest.mark.parametrize(
    "host",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(6.0)[::-1],
        np.arange(6, dtype=">f4"),
        np.broadcast_to(np.float32(3), (2, 2)),
        np.asfortranarray(np.ones((2, 3), "float16")),
        np.array(5, ">i4"),
    ],
    ids=["transposed", "reversed", "big_endian", "broadcast", "fortran", "scalar"],
)
def test_from_host_copies_to_contiguous_native_arrays(backend, host):
    array = backend.from_host(host)
    np.testing.assert_array_equal(array, host)
    assert array.flags.c_contiguous and array.flags.writeable and array.dtype.isnative
    assert array.dtype == host.dtype.newbyteorder("=")
    assert not np.shares_memory(array, host)


def test_to_host_is_a_copy_and_owns_knows_arrays(backend):
    array = backend.zeros((2, 3), "bfloat16")
    host = backend.to_host(array)
    assert not np.shares_memory(array, host) and host.dtype == array.dtype
    assert backend.owns(array) and not backend.owns([1.0])
    backend.synchronize()


def test_copy_refuses_other_shapes_and_types(backend):
    target = backend.empty((2,), "float32")
    backend.copy(target, np.array([1, 2], "float32"))
    np.testing.assert_array_equal(target, [1, 2])
    for source in (np.ones(3, "float32"), np.ones(2, "float64")):
        with pytest.raises(
            ValueError, match=rf"copy: the source is \({source.size},\) {source.dtype}, the target \(2,\) float32"
        ):
            backend.copy(target, source)


def test_dlpack_shares_memory(backend):
    source = np.ones(3, "float32")
    assert np.shares_memory(backend.from_dlpack(source), source)


def test_capturing_is_refused(backend):
    assert not backend.capturing and not backend.captures
    with pytest.raises(DeviceError, match="numpy backend does not capture"):
        backend.allocation_log()
    with pytest.raises(DeviceError, match="numpy backend does not capture"):
        backend.capture(lambda: None, AllocationLog())


def test_other_operations_have_one_algorithm(backend):
    spec = Pool2dSpec.of("max", (1, 4, 4, 1), 2, "float32")
    x = np.arange(16, dtype="float32").reshape(spec.x_shape)
    assert backend.algorithms("pool2d_forward", spec) == ("numpy",)
    np.testing.assert_array_equal(backend.pool2d_forward(x, spec, algorithm="numpy")[0].ravel(), [5, 7, 13, 15])
    with pytest.raises(ValueError, match="pool2d_forward: the numpy backend has no algorithm 'direct'; it has numpy"):
        backend.pool2d_forward(x, spec, algorithm="direct")


def test_a_wrong_out_is_refused(backend):
    with pytest.raises(ValueError, match=r"out must have shape \(4,\), got \(5,\)"):
        backend.activation_forward(
            np.ones(4, "float32"), ActivationSpec("relu", 4, "float32"), out=np.ones(5, "float32")
        )


def test_softmax_of_equal_infinities_is_nan_without_a_warning(backend):
    y = backend.softmax_forward(np.full((1, 2), np.inf, "float32"), SoftmaxSpec(1, 2, False, "float32"))
    assert np.isnan(y).all()


def test_windows_that_straddle_the_image_hold_the_worst_value_and_offset_0(backend):
    """One pixel, padded by one, under taps two apart: the only window meets padding alone."""
    spec = Pool2dSpec.of("max", (1, 4, 1, 1), (2, 2), "float32", stride=1, padding=1, dilation=(1, 2))
    y, offsets = backend.pool2d_forward(np.ones(spec.x_shape, "float32"), spec)
    np.testing.assert_array_equal(y, np.full(spec.y_shape, -np.inf))
    np.testing.assert_array_equal(offsets, np.zeros(spec.y_shape))
    np.testing.assert_array_equal(backend.pool2d_backward_input(y, offsets, spec), np.zeros(spec.x_shape))
