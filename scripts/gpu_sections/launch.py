"""What one launch costs: through the engine, bare, and as a node of a replayed graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from gpu_sections.outcome import NOT_MEASURED, Outcome
from gpu_sections.settings import Settings

if TYPE_CHECKING:
    from gpucnn.devices.device import Device

_FILE = "launch_probe.cu"
_TEXT = """extern "C" __global__ void launch_probe(float* __restrict__ y, const float* __restrict__ x) {
  y[threadIdx.x] = x[threadIdx.x] + 1.0f;
}
"""
_THREADS = 32
_ONE = (1, 1, 1)
_BLOCK = (_THREADS, 1, 1)


def run(settings: Settings, outcome: Outcome) -> None:
    """Launch a kernel of one warp in every way there is, and time each."""
    from gpucnn.devices.allocations import AllocationLog
    from gpucnn.devices.launch_guard import GuardedKernel
    from gpucnn.kernel_source import KernelSource, entries
    from gpucnn.specs import ScalarSpec

    backend = settings.activate()
    device = backend.device
    count, nodes, rounds = (20, 10, 2) if settings.tiny else (2000, 1000, 9)
    x = device.to_device(np.arange(_THREADS, dtype=np.float32))
    y = device.empty((_THREADS,), np.dtype(np.float32))
    source = KernelSource(_FILE, _TEXT, (), entries(_TEXT))
    guarded = GuardedKernel(device, source, "launch_probe")
    bare = device.compile(source, "launch_probe")
    spec = ScalarSpec("add", _THREADS, "float32")
    operands = {"y": y, "x": x}

    def guarded_launch() -> None:
        guarded(_ONE, _BLOCK, operands)

    def wrote_it() -> bool:
        return device.to_host(y).tolist() == list(range(1, _THREADS + 1))

    guarded_launch()
    outcome.check("a launch of one warp writes what it should", wrote_it())

    def capture(length: int) -> Callable[[], None]:
        def nodes_of_graph() -> None:
            for _ in range(length):
                guarded_launch()

        graph, _ = device.capture(nodes_of_graph, AllocationLog())
        return graph.replay

    replay = capture(nodes)
    device.copy(y, np.zeros(_THREADS, np.float32))
    replay()
    outcome.check("a replayed graph writes what it should", wrote_it())

    ways: list[tuple[str, int, Callable[[], object] | None]] = [
        ("one operation of the backend (plan, guard, launch)", 1, lambda: backend.scalar_forward(x, 1.0, spec, out=y)),
        ("through the launch guard", 1, guarded_launch),
        ("bare, as the device launches", 1, lambda: bare(_ONE, _BLOCK, [y, x], 0)),
        ("CuPy's RawKernel", 1, _raw_kernel(outcome, y, x) if settings.backend == "cuda" else None),
        ("replay of a graph of one node", 1, capture(1)),
        (f"one of {nodes} nodes of a replayed graph", nodes, replay),
    ]
    table = outcome.table(
        "Microseconds a launch, one warp" + (" (EMULATED on the CPU)" if settings.tiny else ""),
        ["way", "host (until the call returns)", "device (until all are done)"],
    )
    found = {}
    for name, launches, launch in ways:
        if launch is None:
            table.add(name, NOT_MEASURED, NOT_MEASURED)
            continue
        calls = max(1, count // launches)
        host, total = _microseconds(device, launch, calls, rounds)
        found[name] = total / launches
        table.add(name, host / launches, total / launches)
    outcome.fact("microseconds", found)
    if not settings.tiny:
        guard, node = found["through the launch guard"], found[f"one of {nodes} nodes of a replayed graph"]
        outcome.find(f"{guard:.2f} µs through the guard, {node:.2f} µs a graph node")


def _microseconds(device: Device, launch: Callable[[], object], calls: int, rounds: int) -> tuple[float, float]:
    """Return the median over rounds of (host time, device time) of a call, in microseconds."""
    host, total = [], []
    for _ in range(rounds + 1):
        device.synchronize()
        with device.timer() as elapsed:
            begin = time.perf_counter()
            for _ in range(calls):
                launch()
            host.append((time.perf_counter() - begin) / calls * 1e6)
        total.append(elapsed() / calls * 1e6)
    return float(np.median(host[1:])), float(np.median(total[1:]))  # the first round warms up


def _raw_kernel(outcome: Outcome, y: object, x: object) -> Callable[[], object] | None:
    """Return a launch by CuPy's own class, the yardstick; None, with a note, where CuPy cannot compile."""
    import cupy

    try:
        kernel = cupy.RawKernel(_TEXT, "launch_probe")
        kernel(_ONE, _BLOCK, (y, x))
    except Exception as error:  # CuPy's own compiler may miss headers that gpucnn does not need
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        outcome.note(f"CuPy's RawKernel does not compile here: {reason}")
        return None
    return lambda: kernel(_ONE, _BLOCK, (y, x))
