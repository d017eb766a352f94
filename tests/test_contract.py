"""The contract between backends, plans and kernels: one set of names and signatures, every kernel argument supplied."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import cases
import numpy as np
import pytest

from gpucnn import plans
from gpucnn.backends import Backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.numpy_backend import NumpyBackend
from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Device
from gpucnn.limits import limits_of
from gpucnn.specs import LinearSpec, MatmulSpec, Spec
from gpucnn.specs.optimizer import elements_per_flag, step_counts
from gpucnn.specs.rows import CURSORS

METHODS = dict(inspect.getmembers(Backend, inspect.isfunction))
OPERATIONS = [name for name in METHODS if "_forward" in name or "_backward_" in name or name.endswith("_update")]
REDUCED = {"conv2d_backward_bias", "conv2d_backward_operands"}
"""Operations without plans of their own: they run others."""


class NullDevice(Device):
    """A device that compiles nothing and runs nothing: what is left is the guard, which checks every argument."""

    name = "null"
    host_memory = True
    capturing = False

    def __init__(self) -> None:
        self.limits = limits_of(90)
        self.launched: list[str] = []
        self.compiled: list[tuple[Any, ...]] = []

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        room = np.zeros(int(np.prod(shape)) * dtype.itemsize + 256, np.uint8)
        start = -room.ctypes.data % 256
        return room[start : room.size - 256 + start].view(dtype).reshape(shape)

    def to_device(self, host: np.ndarray) -> np.ndarray:
        array = self.empty(host.shape, host.dtype)
        array[...] = host
        return array

    def from_dlpack(self, source: Any) -> np.ndarray:
        return np.from_dlpack(source)

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def copy(self, target: np.ndarray, source: np.ndarray) -> None:
        target[...] = source

    def owns(self, array: object) -> bool:
        return isinstance(array, np.ndarray)

    def address(self, array: np.ndarray) -> int:
        return int(array.ctypes.data)

    def compile(self, source: Any, entry: str) -> Callable[..., None]:
        self.compiled.append((entry, source.macros))
        return lambda grid, block, arguments, shared_bytes: self.launched.append(entry)

    @contextmanager
    def allocation_log(self) -> Iterator[AllocationLog]:
        yield AllocationLog()

    def capture(self, step: Any, allocations: Any, *, repeat: int = 1, sharing: Any = None) -> Any:
        raise NotImplementedError

    def timer(self) -> Any:
        raise NotImplementedError

    def synchronize(self) -> None:
        """Nothing is under way."""


def specs_by_type() -> dict[type[Spec], list[Callable[[str], Spec]]]:
    """Return the makers of every table in tests/cases by the kind of Spec that they make."""
    found: dict[type[Spec], list[Callable[[str], Spec]]] = {}
    for path in sorted(Path(cases.__file__).parent.glob("[a-z]*.py")):
        for value in vars(import_module(f"cases.{path.stem}")).values():
            if isinstance(value, dict) and value and all(callable(make) for make in value.values()):
                for make in value.values():
                    found.setdefault(type(make("float32")), []).append(make)
    return found


SPECS = specs_by_type()


def spec_type(operation: str) -> Any:
    return get_type_hints(METHODS[operation])["spec"]


def run(b: Backend, operation: str, s: Any, **options: Any) -> Any:
    """Call an operation with arrays of the right shapes and dtypes."""

    def a(*shape: int, dtype: str = s.dtype) -> Any:
        return b.empty(shape, dtype)

    def flat(dtype: str = s.dtype) -> Any:
        return a(s.count, dtype=dtype)

    def state() -> Any:
        return a(3, dtype="uint32")

    def of_rows() -> tuple[Any, Any, Any]:
        return a(s.rows, s.classes), a(s.rows, dtype="int32"), a(s.classes) if s.weighted else None

    def with_loss() -> tuple[Any, ...]:
        bias = a(s.classes) if s.bias else None
        return a(s.rows, s.features), a(s.classes, s.features), bias, a(s.rows, dtype="int32")

    def factor() -> Any:
        return a(1, dtype=s.acc_dtype) if s.weighted_mean else None

    if operation.startswith("conv2d"):
        x, w, y = a(*s.x_shape), a(*s.weight_shape), a(*s.y_shape)
        return {
            "conv2d_forward": lambda: b.conv2d_forward(x, w, a(s.k) if s.bias else None, s, **options),
            "conv2d_backward_input": lambda: b.conv2d_backward_input(y, w, s, **options),
            "conv2d_backward_weight": lambda: b.conv2d_backward_weight(y, x, s, **options),
            "conv2d_backward_bias": lambda: b.conv2d_backward_bias(y, s, **options),
            "conv2d_backward_operands": lambda: b.conv2d_backward_operands(y, x, w, s, **options),
        }[operation]()
    if operation.startswith("conv_pool2d"):
        x, w, y, choice = a(*s.x_shape), a(*s.weight_shape), a(*s.y_shape), a(*s.y_shape, dtype=s.choice_dtype)
        return {
            "conv_pool2d_forward": lambda: b.conv_pool2d_forward(x, w, a(s.k) if s.bias else None, s, **options)[0],
            "conv_pool2d_backward_input": lambda: b.conv_pool2d_backward_input(y, choice, w, s, **options),
            "conv_pool2d_backward_weight": lambda: b.conv_pool2d_backward_weight(y, choice, x, s, **options)[0],
        }[operation]()
    if operation.startswith("pool2d"):
        argmax = None if s.kind == "average" else a(*s.y_shape, dtype=s.argmax_dtype)
        return {
            "pool2d_forward": lambda: b.pool2d_forward(a(*s.x_shape), s, **options)[0],
            "pool2d_backward_input": lambda: b.pool2d_backward_input(a(*s.y_shape), argmax, s, **options),
        }[operation]()
    arguments: dict[str, Callable[[], tuple[Any, ...]]] = {
        "pad2d_forward": lambda: (a(*s.x_shape),),
        "pad2d_backward_input": lambda: (a(*s.y_shape),),
        "matmul_forward": lambda: (
            a(*((s.k, s.m) if s.transpose_a else (s.m, s.k))),
            a(*((s.n, s.k) if s.transpose_b else (s.k, s.n))),
            a(s.n) if s.bias else None,
        ),
        "linear_cross_entropy_forward": lambda: with_loss(),
        "linear_cross_entropy_update": lambda: (
            a(3, dtype="float64"),
            a(),
            a(s.rows, s.classes),
            a(s.rows, s.classes),
            *with_loss(),
        ),
        "linear_backward_operands": lambda: (
            a(s.rows, s.units),
            None if s.activation == "linear" else a(s.rows, s.units),
            a(s.rows, s.features),
            a(s.units, s.features),
        ),
        "activation_forward": lambda: (flat(),),
        "activation_backward_input": lambda: (flat(), flat()),
        "binary_forward": lambda: (a(*s.a_shape), a(*s.b_shape)),
        "scalar_forward": lambda: (flat(), 2.0),
        "cast_forward": lambda: (flat(s.source),),
        "scaled_cast_forward": lambda: (flat(s.source), a(2, dtype="float32"), 1),
        "fill_forward": lambda: (1.0,),
        "accumulate_update": lambda: (flat(), flat()),
        "augment_forward": lambda: (a(*s.x_shape), state()),
        "dropout_forward": lambda: (flat(), state()),
        "dropout_backward_input": lambda: (flat(), state()),
        "reduce_forward": lambda: (a(s.outer, s.length, s.inner),),
        "reduce_backward_input": lambda: (a(s.outer, s.inner),),
        "batch_norm_forward": lambda: (a(s.rows, s.channels), *each(2)),
        "batch_norm_update": lambda: (*each(2), a(s.rows, s.channels), *each(2), a(s.rows, s.channels), *each(2)),
        "batch_norm_inference_forward": lambda: (a(s.rows, s.channels), *each(4)),
        "batch_norm_backward_operands": lambda: (a(s.rows, s.channels), a(s.rows, s.channels), *each(3)),
        "concatenate_forward": lambda: ([a(s.rows, width) for width in s.widths],),
        "concatenate_backward_input": lambda: (a(s.rows, s.width), 0),
        "softmax_forward": lambda: (a(s.rows, s.columns),),
        "softmax_backward_input": lambda: (a(s.rows, s.columns), a(s.rows, s.columns)),
        "cross_entropy_forward": lambda: of_rows(),
        "cross_entropy_update": lambda: (a(3, dtype="float64"), a(), a(s.rows, s.classes), factor(), *of_rows()),
        "cross_entropy_backward_logits": lambda: (
            a(*((s.rows,) if s.reduction == "none" else ())),
            *of_rows(),
            factor(),
        ),
        "binary_cross_entropy_forward": lambda: (flat(), flat()),
        "binary_cross_entropy_backward_logits": lambda: (a(*((s.count,) if s.reduction == "none" else ())), flat()),
        "gather_update": lambda: (
            a(CURSORS, dtype="int32"),
            a(s.rows, s.width),
            a(s.rows, dtype="int32") if s.labelled else None,
            a(s.source_rows, s.width, dtype=s.source),
            a(s.source_rows, dtype="int32") if s.labelled else None,
            a(s.order_length, dtype="int32"),
        ),
        "metrics_update": lambda: (
            a(3, dtype="float64"),
            a(),
            a(s.rows, s.classes),
            a(s.rows, s.classes) if s.kind == "binary" else a(s.rows, dtype="int32"),
        ),
        "argmax_forward": lambda: (a(s.rows, s.columns),),
        "confusion_update": lambda: (
            a(s.classes, s.classes, dtype="int32"),
            a(s.rows, dtype="int32"),
            a(s.rows, dtype="int32"),
        ),
        "sgd_update": lambda: (flat(), flat() if s.momentum else None, steps(), flat(), *tables(2)),
        "adam_update": lambda: (flat(), flat(), flat(), steps(), flat(), *tables(4)),
        "loss_scale_update": lambda: (
            a(2, dtype="float32"),
            a(2, dtype="int32"),
            steps(),
            flat("uint8"),
            flat(),
            flat("uint8"),
        ),
        "squared_norm_forward": lambda: (*pieces(), a(s.groups + 1, dtype="int32")),
        "clip_update": lambda: clipped(*pieces()),
    }

    def each(count: int) -> list[Any]:
        return [a(s.channels, dtype=s.acc_dtype) for _ in range(count)]

    def pieces() -> tuple[Any, ...]:
        each = s.pieces * elements_per_flag(s.dtype)
        return a(each), a(s.pieces, dtype="uint8"), b.from_host(np.zeros((s.pieces, 3), np.int32))

    def clipped(gradients: Any, flags: Any, table: Any) -> tuple[Any, ...]:
        sums = None if s.kind == "value" else a(s.sums, dtype="float64")
        return gradients, sums, flags, table, a(1, dtype="float64")

    def steps() -> Any:
        return a(step_counts(s.count), dtype="int32")

    def tables(hyper: int) -> tuple[Any, ...]:
        return a(s.count, dtype="uint8"), a(hyper, dtype=s.acc_dtype), a(1, dtype=s.acc_dtype), a(2, dtype="int32")

    return getattr(b, operation)(*arguments[operation](), s, **options)


@pytest.mark.parametrize("backend_class", [NumpyBackend, KernelBackend])
@pytest.mark.parametrize("name", [*METHODS, "capturing"])
def test_backends_have_the_signatures_of_the_contract(backend_class: type[Backend], name: str) -> None:
    own, agreed = getattr(backend_class, name), getattr(Backend, name)
    if isinstance(agreed, property):
        assert isinstance(own, property)
        return
    assert not getattr(own, "__isabstractmethod__", False), f"{backend_class.__name__} lacks {name}"
    if name == "__init__":
        return
    mine, theirs = inspect.signature(own).parameters, inspect.signature(agreed).parameters
    assert [(p.name, p.kind, p.default) for p in mine.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]


@pytest.mark.parametrize("backend_class", [NumpyBackend, KernelBackend])
def test_backends_offer_no_operation_beyond_the_contract(backend_class: type[Backend]) -> None:
    """An operation that one backend alone has would be called above, and break the others."""
    public = {name for name in dir(backend_class) if not name.startswith("_")}
    assert public <= {name for name in dir(Backend) if not name.startswith("_")} | {"captures", "host_memory", "name"}


def test_every_plan_operation_is_a_backend_method_and_the_reverse() -> None:
    assert set(plans.operations()) == set(OPERATIONS) - REDUCED


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_are_named_by_their_pass(operation: str) -> None:
    """`<op>_forward`, `<op>_backward_<argument>`, `<op>_update`; updates return nothing, the others take `out`."""
    signature = inspect.signature(METHODS[operation])
    if operation.endswith("_update"):
        assert signature.return_annotation == "None"
    elif not operation.endswith("cross_entropy_forward"):
        assert signature.parameters["out"].default is None


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - REDUCED - {"counter_update"}))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_argument_of_every_launch_is_supplied(operation: str, dtype: str) -> None:
    """Every case by every plan, through the guard, which refuses a missing name, a wrong dtype and an empty array."""
    device = NullDevice()
    backend = KernelBackend(device)
    by_plan = backend.launcher.run
    ran = 0
    for make in SPECS[spec_type(operation)]:
        spec = make(dtype)
        if dtype == "bfloat16" and operation.startswith(("sgd", "adam")):
            continue
        for name in backend.algorithms(operation, spec):
            backend.launcher.run = lambda what, spec, operands, algorithm=None, name=name: by_plan(
                what, spec, operands, name if what == operation else algorithm
            )
            device.launched.clear()
            result = run(backend, operation, spec)
            if operation.endswith("_update"):
                assert result is None
            assert all(e.startswith(operation) or e.split("_")[0] in operation for e in device.launched), (
                device.launched
            )
            ran += len(device.launched)
    assert ran or (dtype == "bfloat16" and operation.endswith("_update"))


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_counter_update_is_supplied(dtype: str) -> None:
    device = NullDevice()
    backend = KernelBackend(device)
    backend.counter_update(backend.empty((3,), dtype), 2, 1)
    assert device.launched == ["counter_update"]


def with_batch(spec: Any, n: int) -> Any:
    """Return the Spec for another batch size."""
    if isinstance(spec, MatmulSpec):
        return replace(spec, **{"k" if spec.transpose_a else "m": n})
    axis = "rows" if isinstance(spec, LinearSpec) else "n"
    return replace(spec, **{axis: n})


@pytest.mark.parametrize(
    "operation",
    ["conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight", "pool2d_forward", "pool2d_backward_input"]
    + ["conv_pool2d_forward", "conv_pool2d_backward_input", "conv_pool2d_backward_weight"]
    + ["pad2d_forward", "pad2d_backward_input", "augment_forward", "matmul_forward", "linear_backward_operands"],
)
def test_the_last_smaller_batch_compiles_nothing_and_adds_alike(operation: str) -> None:
    """It reuses the full batch's plan; and had it come first, its sums would have been made in the same order."""
    for make in SPECS[spec_type(operation)]:
        device = NullDevice()
        backend = KernelBackend(device)
        full = with_batch(make("float32"), 64)
        run(backend, operation, full)
        compiled = len(device.compiled)
        for n in (1, 7, 63):
            run(backend, operation, with_batch(full, n))
            assert len(device.compiled) == compiled, device.compiled[compiled:]
            first = plans.candidates(operation, with_batch(full, n), device.limits, 16)[0]
            assert first.summation == plans.candidates(operation, full, device.limits, 16)[0].summation


@pytest.mark.parametrize(
    "operation", sorted({o for o in OPERATIONS if "algorithm" in str(inspect.signature(METHODS[o]))})
)
def test_unknown_algorithms_are_refused_with_a_list(backend: Backend, operation: str) -> None:
    spec = SPECS[spec_type(operation)][1]("float32")
    known = backend.algorithms(operation, spec)
    assert known and len(set(known)) == len(known)
    with pytest.raises(ValueError, match=rf"^{operation}.* has no algorithm 'quick'.*; it has {known[0]}"):
        run(backend, operation, spec, algorithm="quick")


SEVERAL = {"batch_norm_backward_operands", "conv2d_backward_operands", "linear_backward_operands"}
"""Operations of several outputs, whose `out` is a tuple; their own tests give one."""
WRITING = sorted(o for o in set(OPERATIONS) - SEVERAL if "out" in inspect.signature(METHODS[o]).parameters)


@pytest.mark.parametrize("operation", WRITING)
def test_out_is_written_whole_and_returned(operation: str) -> None:
    """On NumPy, where it is cheap; `tests/operations` writes to given outputs on the others."""
    backend = NumpyBackend()
    makers = SPECS[spec_type(operation)]
    for make in makers[:: max(1, len(makers) // 6)]:
        spec = make("float32")
        fresh = run(backend, operation, spec)
        fresh = fresh[0] if isinstance(fresh, tuple) else fresh
        out = np.full_like(fresh, np.nan) if fresh.dtype.kind == "f" else np.full_like(fresh, -7)
        given = run(backend, operation, spec, out=out)
        assert (given[0] if isinstance(given, tuple) else given) is out
        assert out.shape == fresh.shape and out.dtype == fresh.dtype


@pytest.mark.parametrize("operation", [o for o in WRITING if o != "fill_forward"])
def test_out_of_another_shape_is_refused(backend: Backend, operation: str) -> None:
    """A fill takes any shape of its count."""
    spec = SPECS[spec_type(operation)][1]("float32")
    with pytest.raises(ValueError, match=r"out must have shape \("):
        run(backend, operation, spec, out=backend.empty((2, 3, 5, 7, 11), spec.dtype))
