"""The launch guard refuses what CuPy's RawKernel would not. Rows G9, S6, S11, S12, S14, S15 and S17 of FAULTS.md.

Every refusal is asked of a first launch and of bound launches that let other operands through before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gpucnn.devices.bound_launches import BoundLaunches
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.errors import KernelError
from gpucnn.kernel_source import KernelSource, entries
from gpucnn.limits import DeviceLimits

TEXT = """
GPUCNN_KERNEL blend_forward(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ a, const SPEC_T* b, float weight, int N,
                            unsigned seed, long long count) {}
GPUCNN_KERNEL tick_update(GPUCNN_INOUT int* counter, const unsigned char* flags) {}
"""
MACROS = {"SPEC_T": "float"}
SOURCE = KernelSource("blend.cu", TEXT, tuple(MACROS.items()), entries(TEXT, MACROS))


class StubDevice:
    """Owns the NumPy arrays it made; remembers the launches."""

    name = "stub"
    limits = DeviceLimits(capability=90, shared_bytes=1000, multiprocessors=1)

    def __init__(self) -> None:
        self.launches: list[tuple[Any, ...]] = []
        self.bases: list[np.ndarray] = []

    def array(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """Return an array aligned to 256 bytes."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.zeros(nbytes + 256, np.uint8)
        start = -memory.ctypes.data % 256
        self.bases.append(memory)
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def owns(self, array: object) -> bool:
        while isinstance(array, np.ndarray) and array.base is not None:
            array = array.base
        return any(array is base for base in self.bases)

    def address(self, array: np.ndarray) -> int:
        return array.ctypes.data

    def compile(self, source: KernelSource, entry: str) -> Any:
        def kernel(grid: Any, block: Any, arguments: Sequence[Any], shared_bytes: int) -> None:
            self.launches.append((entry, grid, block, list(arguments), shared_bytes))

        return kernel


@pytest.fixture
def device() -> StubDevice:
    return StubDevice()


def acceptable(device: StubDevice) -> dict[str, Any]:
    y, a = device.array((4, 6)), device.array((4, 6))
    return {"y": y, "a": a, "b": None, "weight": 0.5, "N": 4, "seed": 7, "count": 24}


@pytest.fixture
def operands(device: StubDevice) -> dict[str, Any]:
    return acceptable(device)


def run_bound(launches: BoundLaunches, device: StubDevice, operands: dict[str, Any]) -> None:
    arrays = {name: value for name, value in operands.items() if isinstance(value, np.ndarray)}
    launches(operands, {name: device.address(array) for name, array in arrays.items()})


def bound(device: Any, *, alignment: int = 0) -> BoundLaunches:
    """Return one launch that has run once."""
    kernel = GuardedKernel(device, SOURCE, "blend_forward", alignment=alignment)
    launches = BoundLaunches(device, [(kernel, GRID, BLOCK, 0)])
    run_bound(launches, device, acceptable(device))
    device.launches.clear()
    return launches


GRID, BLOCK = (2, 1, 1), (32, 1, 1)


def launch(
    device: Any, operands: dict[str, Any], *, grid: Any = GRID, block: Any = BLOCK, shared: int = 0, alignment: int = 0
) -> None:
    GuardedKernel(device, SOURCE, "blend_forward", alignment=alignment)(grid, block, operands, shared)


def refused(device: StubDevice, operands: dict[str, Any], kind: type[Exception], message: str, **options: Any) -> None:
    with pytest.raises(kind, match=message):
        launch(device, operands, **options)
    assert not device.launches
    if options.keys() <= {"alignment"}:
        launches = bound(device, **options)
        for _ in range(2):
            with pytest.raises(kind, match=message):
                run_bound(launches, device, operands)
        assert not device.launches
        run_bound(launches, device, acceptable(device))
        assert len(device.launches) == 1
        device.launches.clear()


def test_arguments_are_bound_by_name_in_the_signatures_order(device: StubDevice, operands: dict[str, Any]) -> None:
    launch(device, {**dict(reversed(operands.items())), "workspace": "for another launch"}, shared=1000)
    entry, grid, block, arguments, shared = device.launches[0]
    assert (entry, grid, block, shared) == ("blend_forward", GRID, BLOCK, 1000)
    assert arguments[0] is operands["y"] and arguments[1] is operands["a"] and arguments[2] is None
    kinds = [np.float32, np.int32, np.uint32, np.int64]
    assert [type(a) for a in arguments[3:]] == kinds and [a.item() for a in arguments[3:]] == [0.5, 4, 7, 24]


def test_an_entry_that_is_not_there(device: StubDevice) -> None:
    with pytest.raises(KernelError, match="blend.cu has no entry 'blend'; it has blend_forward, tick_update"):
        GuardedKernel(device, SOURCE, "blend")  # type: ignore[arg-type]


def test_a_type_that_no_array_has(device: StubDevice) -> None:
    source = KernelSource("blend.cu", TEXT, (), entries(TEXT))
    with pytest.raises(KernelError, match="blend_forward: parameter 'y' has the type 'SPEC_T', which no array"):
        GuardedKernel(device, source, "blend_forward")  # type: ignore[arg-type]


# -- G9: arguments that the signature does not have -------------------------------------------------------------------
@pytest.mark.parametrize("name", ["y", "a", "b", "weight", "N", "seed", "count"])
def test_g9_a_missing_argument(device: StubDevice, operands: dict[str, Any], name: str) -> None:
    del operands[name]
    refused(device, operands, TypeError, f"blend_forward: argument '{name}' is missing")


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    [
        ("weight", "1", TypeError, r"argument 'weight' must be a number \(float32\), got str"),
        ("weight", True, TypeError, r"argument 'weight' must be a number \(float32\), got bool"),
        ("weight", np.ones(1, np.float32), TypeError, r"argument 'weight' must be a number \(float32\), got ndarray"),
        ("weight", None, TypeError, r"argument 'weight' must be a number \(float32\), got NoneType"),
        ("weight", 1j, TypeError, r"argument 'weight' must be a number \(float32\), got complex"),
        ("N", 4.0, TypeError, r"argument 'N' must be an integer \(int32\), got 4.0"),
        ("N", np.bool_(True), TypeError, r"argument 'N' must be a number \(int32\), got bool"),
        ("N", np.float32(4), TypeError, r"argument 'N' must be an integer \(int32\)"),
        ("N", 2**31, ValueError, "argument 'N' does not fit int32: 2147483648"),
        ("N", -(2**31) - 1, ValueError, "argument 'N' does not fit int32: -2147483649"),
        ("seed", -1, ValueError, "argument 'seed' does not fit uint32: -1"),
        ("seed", 2**32, ValueError, "argument 'seed' does not fit uint32: 4294967296"),
        ("count", 2**63, ValueError, "argument 'count' does not fit int64: 9223372036854775808"),
    ],
)
def test_g9_a_wrong_scalar(
    device: StubDevice, operands: dict[str, Any], name: str, value: Any, kind: type[Exception], message: str
) -> None:
    refused(device, {**operands, name: value}, kind, f"^blend_forward: {message}")


@pytest.mark.parametrize(("name", "value"), [("N", 2**31 - 1), ("N", -(2**31)), ("seed", 2**32 - 1), ("count", 2**40)])
def test_scalars_up_to_the_ends_of_their_range(
    device: StubDevice, operands: dict[str, Any], name: str, value: int
) -> None:
    launch(device, {**operands, name: value})
    assert value in [int(a) for a in device.launches[0][3][3:]]


@pytest.mark.parametrize("name", ["y", "a"])
@pytest.mark.parametrize("dtype", ["float64", "int32", "float16", "uint32", "bfloat16"])
def test_g9_an_array_of_another_dtype(device: StubDevice, operands: dict[str, Any], name: str, dtype: str) -> None:
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    operands[name] = device.array((4, 6), kind)
    refused(device, operands, TypeError, f"blend_forward: argument '{name}' must be float32, got {dtype}")


def test_g9_a_number_for_an_array(device: StubDevice, operands: dict[str, Any]) -> None:
    refused(device, {**operands, "a": 3.0}, TypeError, "argument 'a' must be an array of the stub device, got float")


def test_none_is_a_null_pointer_for_inputs_only(device: StubDevice, operands: dict[str, Any]) -> None:
    launch(device, {**operands, "a": None})
    assert device.launches[0][3][1] is None
    device.launches.clear()
    refused(device, {**operands, "y": None}, TypeError, "argument 'y' is an output and must be an array, got None")


def test_s14_an_array_of_the_host(device: StubDevice, operands: dict[str, Any]) -> None:
    host = np.zeros((4, 6), np.float32)
    refused(device, {**operands, "a": host}, TypeError, "argument 'a' must be an array of the stub device, got ndarray")
    refused(device, {**operands, "y": [0.0]}, TypeError, "argument 'y' must be an array of the stub device, got list")


# -- S11, S12, S6: arrays that a kernel would misread -----------------------------------------------------------------
@pytest.mark.parametrize("name", ["y", "a"])
@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[::2], lambda x: x[::-1], lambda x: x[:, 1:]])
def test_s11_strided_arrays(device: StubDevice, operands: dict[str, Any], name: str, view: Any) -> None:
    operands[name] = view(operands[name])
    message = rf"argument '{name}' must be C-contiguous, got shape \(\d, \d\) with strides \(-?\d+, \d+\)"
    refused(device, operands, ValueError, message)


def test_s11_a_broadcast_input(device: StubDevice, operands: dict[str, Any]) -> None:
    operands["a"] = np.broadcast_to(device.array((6,)), (4, 6))
    message = r"argument 'a' must be C-contiguous, got shape \(4, 6\) with strides \(0, 4\)"
    refused(device, operands, ValueError, message)


def test_s11_read_only_arrays_are_inputs_only(device: StubDevice, operands: dict[str, Any]) -> None:
    operands["a"].flags.writeable = False
    launch(device, operands)
    device.launches.clear()
    operands["y"].flags.writeable = False
    refused(device, operands, ValueError, "argument 'y' is an output but read-only")


@pytest.mark.parametrize("name", ["y", "a"])
def test_s12_views_that_are_not_aligned(device: StubDevice, operands: dict[str, Any], name: str) -> None:
    operands[name] = device.array((5, 6))[1:]
    launch(device, operands)  # by elements it is
    device.launches.clear()
    message = f"argument '{name}' must be aligned to 16 bytes, its address is 0x[0-9a-f]+"
    refused(device, operands, ValueError, message, alignment=16)
    operands[name] = device.array((4, 8))[2:]
    launch(device, operands, alignment=16)


def test_s12_less_than_an_element(device: StubDevice, operands: dict[str, Any]) -> None:
    operands["a"] = device.array((30,), np.uint8)[2:26].view(np.float32)
    refused(device, operands, ValueError, "argument 'a' must be aligned to 4 bytes")


@pytest.mark.parametrize("name", ["y", "a"])
def test_s6_empty_arrays(device: StubDevice, operands: dict[str, Any], name: str) -> None:
    operands[name] = device.array((0, 6))
    refused(device, operands, ValueError, rf"argument '{name}' is empty, shape \(0, 6\)")


# -- S15: aliasing ----------------------------------------------------------------------------------------------------
def test_s15_an_input_twice(device: StubDevice, operands: dict[str, Any]) -> None:
    launch(device, {**operands, "b": operands["a"]})
    launch(device, {**operands, "b": operands["a"][1:]})
    assert len(device.launches) == 2


@pytest.mark.parametrize(
    ("y", "a"),
    [
        (slice(0, 4), slice(0, 4)),
        (slice(0, 4), slice(3, 5)),
        (slice(3, 5), slice(0, 4)),
        (slice(0, 8), slice(3, 4)),
        (slice(3, 4), slice(0, 8)),
    ],
)
def test_s15_an_output_that_is_an_input(device: StubDevice, operands: dict[str, Any], y: slice, a: slice) -> None:
    memory = device.array((8, 6))
    operands |= {"y": memory[y], "a": memory[a]}
    message = "blend_forward: arguments '[ya]' and '[ya]' overlap in memory, and one is an output"
    refused(device, operands, ValueError, message)


def test_s15_an_output_behind_two_inputs(device: StubDevice, operands: dict[str, Any]) -> None:
    memory = device.array((8, 6))
    operands |= {"a": memory, "b": memory[0:1], "y": memory[6:7]}
    refused(device, operands, ValueError, "arguments 'a' and 'y' overlap")


def test_s15_neighbours_do_not_overlap(device: StubDevice, operands: dict[str, Any]) -> None:
    memory = device.array((12, 6))
    launch(device, {**operands, "a": memory[:4], "y": memory[4:8], "b": memory[8:]})


def test_s15_an_in_out_array_may_be_read_but_not_shared(device: StubDevice) -> None:
    kernel = GuardedKernel(device, SOURCE, "tick_update")  # type: ignore[arg-type]
    counter = device.array((4,), np.int32)
    kernel(GRID, BLOCK, {"counter": counter, "flags": device.array((16,), np.uint8)})
    with pytest.raises(ValueError, match="tick_update: arguments 'counter' and 'flags' overlap"):
        kernel(GRID, BLOCK, {"counter": counter, "flags": counter.view(np.uint8)})
    assert len(device.launches) == 1


# -- S17 and G7: geometry ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (0, 1, 1)}, r"grid \(0, 1, 1\) is outside"),
        ({"grid": (2**31, 1, 1)}, r"grid \(2147483648, 1, 1\) is outside 1..\(2147483647, 65535, 65535\)"),
        ({"grid": (1, 65536, 1)}, r"grid \(1, 65536, 1\) is outside"),
        ({"grid": (1, 1, 65536)}, r"grid \(1, 1, 65536\) is outside"),
        ({"grid": (1, 1)}, r"grid \(1, 1\) is outside"),
        ({"block": (1025, 1, 1)}, r"block \(1025, 1, 1\) is outside"),
        ({"block": (1, 1, 65)}, r"block \(1, 1, 65\) is outside 1..\(1024, 1024, 64\)"),
        ({"block": (64, 17, 1)}, r"block \(64, 17, 1\) has more than 1024 threads"),
        ({"block": (32, 0, 1)}, r"block \(32, 0, 1\) is outside"),
        ({"shared": 1001}, "1001 bytes of shared memory, the device allows 1000"),
    ],
)
def test_s17_g7_launches_beyond_the_limits(
    device: StubDevice, operands: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    refused(device, operands, ValueError, f"^blend_forward: {message}", **options)


@pytest.mark.parametrize("grid", [(2**31 - 1, 1, 1), (1, 65535, 65535)])
def test_s17_the_largest_grids(device: StubDevice, operands: dict[str, Any], grid: tuple[int, int, int]) -> None:
    launch(device, operands, grid=grid, block=(16, 16, 4))
    assert device.launches[0][1] == grid
