"""A device whose kernels are matrix products in Python and whose clock is a script: for the rules of tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.null import NullDevice
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import KernelSource
from gpucnn.limits import limits_of

Fault = Callable[[np.ndarray, np.ndarray], None]


class ScriptedGraph:
    def __init__(self, nodes: list[Callable[[], None]]) -> None:
        self.nodes = nodes

    def replay(self) -> None:
        for node in self.nodes:
            node()


class ScriptedDevice(NullDevice):
    """Runs `matmul_forward`; a plan is known by its name, e.g. "direct/32x32x32".

    Args:
        seconds: of one run by plan, or a function of (plan, how often it ran before) for a clock with moods.
        usual: seconds of the plans that are not named.
        faults: what to do to the result of a plan, given what was there before.
        broken: plans that raise this error when they are compiled.

    Attributes:
        runs: plans in the order in which they ran.
        addresses: of every array that a kernel was given.
    """

    name = "scripted"
    host_memory = False

    def __init__(
        self,
        seconds: dict[str, float] | Callable[[str, int], float] | None = None,
        *,
        usual: float = 1e-3,
        faults: dict[str, Fault] | None = None,
        broken: dict[str, Exception] | None = None,
        identity: str = "scripted device 1",
    ) -> None:
        super().__init__(limits_of(90))
        table = seconds or {}
        self._seconds = (lambda plan, _: table.get(plan, usual)) if isinstance(table, dict) else table
        self._faults, self._broken = faults or {}, broken or {}
        self._identity = identity
        self._nodes: list[Callable[[], None]] | None = None
        self.in_capture = False
        self.memory_left = float("inf")
        self.clock = 0.0
        self.runs: list[str] = []
        self.compiled: list[str] = []
        self.addresses: set[int] = set()

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def capturing(self) -> bool:
        return self.in_capture

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        room = np.full(int(np.prod(shape)) * dtype.itemsize + 256, 0xFF, np.uint8)
        start = -room.ctypes.data % 256
        return room[start : room.size - 256 + start].view(dtype).reshape(shape)

    def scratch(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        self.memory_left -= int(np.prod(shape)) * dtype.itemsize
        if self.memory_left < 0:
            raise DeviceError("scripted device is out of memory")
        return self.empty(shape, dtype)

    def compile(self, source: KernelSource, entry: str) -> Any:
        macros = dict(source.macros)
        if "TUNE_TILE_M" not in macros:
            return lambda grid, block, arguments, shared: self.runs.append(entry)
        tile = "x".join(macros[f"TUNE_TILE_{axis}"] for axis in "MNK")
        plan = f"{'split_k' if 'split_k' in entry else 'direct'}/{tile}"
        if plan in self._broken:
            raise self._broken[plan]
        self.compiled.append(plan)
        names = [p.name for p in source.parameters(entry)]

        def launch(grid: Any, block: Any, arguments: Sequence[Any], shared: int) -> None:
            given = dict(zip(names, arguments, strict=True))
            self.addresses |= {self.address(a) for a in arguments if isinstance(a, np.ndarray)}
            if self._nodes is None:
                self._run(plan, entry, given)
            else:
                self._nodes.append(partial(self._run, plan, entry, given))

        return launch

    def _run(self, plan: str, entry: str, given: dict[str, Any]) -> None:
        before = given["y"].copy() if "y" in given else None
        if entry.endswith("_sum"):
            given["y"][...] = given["workspace"][: given["y"].size].reshape(given["y"].shape)
        else:
            self.clock += self._seconds(plan, self.runs.count(plan))
            self.runs.append(plan)
            product = given["a"].astype(np.float64) @ given["b"].astype(np.float64)
            result = product.astype(np.float32)
            if entry.endswith("split_k"):
                given["workspace"][: product.size] = result.ravel()
            else:
                given["y"][...] = result
        if "y" in given and plan in self._faults:
            self._faults[plan](given["y"], before)

    @contextmanager
    def timer(self) -> Iterator[Callable[[], float]]:
        start, end = self.clock, []
        yield lambda: (end[0] if end else self.clock) - start
        end.append(self.clock)

    def capture(
        self, step: Callable[[], Any], allocations: AllocationLog, *, repeat: int = 1, sharing: Any = None
    ) -> tuple[Any, Any]:
        self._nodes = []
        try:
            for _ in range(repeat):
                step()
            return ScriptedGraph(self._nodes), None
        finally:
            self._nodes = None
