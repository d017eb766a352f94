"""What bounds each kernel on an H200, known without one: its operations and bytes beside the data sheet's rates, and
what the compiler made of it. Nothing here is a measurement; the section `kernels` measures.

No run is shorter than `at least`: the larger of operations / the rate of the unit that does them and compulsory bytes /
the memory's rate. How near a kernel comes is limited by three shares, each at most 1: of a scheduler's cycles that its
main loop can issue a product in, of the multiprocessors that its last round of blocks keeps busy, and of the warps that
registers and shared memory leave room for.

Source of the rates: NVIDIA H200 data sheet, dense, SXM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from gpucnn import optimizers
from gpucnn.autograd import tensor
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.launcher import VECTOR_BYTES, Ran
from gpucnn.benchmarks import block, kernels, pool
from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.layers import Convolution
from gpucnn.benchmarks.networks import LENET5, RECORD, Network
from gpucnn.benchmarks.own import convolution_spec
from gpucnn.devices import sass
from gpucnn.devices.null import NullDevice
from gpucnn.errors import DeviceError
from gpucnn.limits import WARP, limits_of, resident_blocks, resident_warps
from gpucnn.plans import Launch, Plan, candidates, ceil_div
from gpucnn.specs import Spec

TITLE = "What bounds the kernels on an H200 by its data sheet and the machine code; none of it is measured"
_ABSENT = "-"
COLUMNS = (
    Column("case", "what"),
    Column("operation", "operation"),
    Column("plan", "gpucnn's kernel"),
    Column("launches", "launches", "count"),
    Column("operations", "operations", "number", _ABSENT),
    Column("bytes", "compulsory traffic", "bytes", _ABSENT),
    Column("bound", "bound by", absent=_ABSENT),
    Column("at_least", "at least", "seconds", _ABSENT),
    Column("product", "product", absent=_ABSENT),
    Column("issued", "issued", "percent", _ABSENT),
    Column("busy", "multiprocessors busy", "percent"),
    Column("resident", "warps resident", "percent"),
    Column("vectors", "16-byte accesses", "percent", _ABSENT),
    Column("registers", "registers", "count"),
    Column("shared", "shared bytes", "count"),
    Column("spilt", "bytes spilt", "count"),
)

CAPABILITY = 90
ARCHITECTURE = f"sm_{CAPABILITY}a"
"""What a GPU of that capability compiles for."""
BYTES_PER_SECOND = 4.8e12
RATES = {
    "HMMA.16816.F32.BF16": 989.5e12,
    "HMMA.16816.F32": 989.5e12,
    "HMMA.1688.F32.TF32": 494.7e12,
    "FFMA": 66.9e12,
    "DFMA": 33.5e12,
}
"""Operations a second of the whole GPU, by product instruction."""
CYCLES = {"HMMA.16816.F32.BF16": 4, "HMMA.16816.F32": 4, "HMMA.1688.F32.TF32": 4, "FFMA": 1, "DFMA": 2}
"""Of a scheduler's unit for one product instruction of a warp, at these rates."""
UNITS = {"H": "tensor cores", "F": "CUDA cores", "D": "CUDA cores"}
"""By the instruction's first letter."""

_NETWORKS = (
    (128, LENET5),
    (256, RECORD),
)


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield the convolutions of the layer table, poolings, and the operations of first blocks and of MNIST's steps."""
    for precision, layer, operation in kernels.every_row():
        yield Case(kernels.row_name(layer, operation, precision), partial(_convolution, layer, operation, precision))
    for name, spec in pool.specs():
        for operation in ("pool2d_forward", "pool2d_backward_input"):
            yield Case(f"{name}, {operation}", partial(_first_guess, operation, spec))
    for batch, network in (*block.BLOCKS, *_NETWORKS):
        for place, ran in enumerate(_operations(batch, network)):
            name = f"N{batch} {network.name}, {place + 1:02}"
            yield Case(name, partial(row_of, ran.operation, ran.spec, ran.plan))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the bytes spilt by all kernels together."""
    spilt = [row["spilt"] for row in rows.values() if row.get("spilt") is not None]
    return {"bytes spilt, all kernels": float(sum(spilt)) if spilt else None}


def row_of(operation: str, spec: Spec, plan: Plan) -> dict[str, Any]:
    """Return what bounds one operation as a plan runs it.

    Where a plan has several launches, the code's figures are those of the one with the most products.

    Raises:
        DeviceError: there is no NVRTC or no disassembler.
    """
    codes = [_code_of(launch) for launch in plan.launches]
    code = max(codes, key=lambda one: one["work"])
    operations, traffic = getattr(spec, "flops", None), getattr(spec, "bytes", None)
    executed = None if operations is None else operations * (3 if "3xtf32" in plan.algorithm else 1)
    rate = RATES.get(code["product"] or "")
    times = {}
    if executed is not None and rate is not None:
        times[UNITS[code["product"][0]]] = executed / rate
    if traffic is not None:
        times["memory"] = traffic / BYTES_PER_SECOND
    bound = max(times, key=times.__getitem__, default=None)
    return {
        "operation": operation,
        "plan": plan.name,
        "launches": len(plan.launches),
        "operations": operations,
        "bytes": traffic,
        "bound": bound,
        "at_least": None if bound is None else times[bound],
        **{key: value for key, value in code.items() if key != "work"},
        "spilt": sum(one["spilt"] for one in codes),
    }


def _code_of(launch: Launch) -> dict[str, Any]:
    """Return what the compiler made of a launch's entry, and how it fills the GPU."""
    report, code = sass.entry_of(launch, ARCHITECTURE)
    whole, loop = sass.mix_of(code), sass.mix_of(sass.main_loop(code))
    shared = report.shared_bytes + launch.shared_bytes
    multiprocessors = limits_of(CAPABILITY).multiprocessors
    blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
    kept = resident_blocks(CAPABILITY, threads=launch.threads, registers=report.registers, shared_bytes=shared)
    return {
        "work": sum(loop.products.values()) * blocks * launch.threads,
        "product": loop.product,
        "issued": min(1.0, loop.product_share * CYCLES.get(loop.product or "", 1)) if loop.product else None,
        "busy": blocks / (multiprocessors * ceil_div(blocks, multiprocessors)),
        "resident": kept * ceil_div(launch.threads, WARP) / resident_warps(CAPABILITY),
        "vectors": whole.vector_share,
        "registers": report.registers,
        "shared": shared,
        "spilt": report.spill_stores + report.spill_loads,
    }


def _convolution(layer: Convolution, operation: str, precision: str) -> dict[str, Any]:
    spec, algorithm = convolution_spec(layer, precision)
    return _first_guess(f"conv2d_{operation}", spec, algorithm)


def _first_guess(operation: str, spec: Spec, algorithm: str | None = None) -> dict[str, Any]:
    """Return the row of the plan that runs untuned, or of the first of an algorithm."""
    plans = candidates(operation, spec, limits_of(CAPABILITY), VECTOR_BYTES)
    plan = next((plan for plan in plans if algorithm in (None, plan.algorithm)), None)
    if plan is None:
        raise DeviceError(f"no kernel computes {operation} by {algorithm} on an H200")
    return row_of(operation, spec, plan)


def _operations(batch: int, network: Network) -> Iterable[Ran]:
    """Return the operations of a network's training step, or of its passes where it ends in feature maps."""
    backend = KernelBackend(NullDevice(limits_of(CAPABILITY)), tune="off")
    with use_backend(backend):
        model = network.build()
        model.compile(optimizer=optimizers.Adam())
        images = tensor(np.zeros((batch, *network.image), np.float32))
        with backend.launcher.recorded() as found:
            if network.classes:
                model.train_step(images, tensor(np.zeros(batch, np.int32)))
            else:
                gradient = tensor(np.zeros((batch, *model.output_shape(network.image)), np.float32))
                model(images, training=True).backward(gradient)
    return found
