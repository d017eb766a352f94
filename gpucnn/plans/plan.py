"""Plans: ways to run a Spec, as pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpucnn import limits as device_limits
from gpucnn.limits import DeviceLimits


def ceil_div(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class Launch:
    """One launch: which entry of which file, compiled with which macros, on which grid.

    Args:
        file: name inside `kernels/`.
        entry: the `extern "C"` name.
        macros: SPEC_* and TUNE_* definitions; nothing in them may depend on a run-time size of the Spec.
        grid: blocks (x, y, z); may depend on run-time sizes.
        block: threads (x, y, z).
        shared_bytes: dynamic shared memory.
        alignment: bytes to which every array argument must be aligned; 0 for its element size.
    """

    file: str
    entry: str
    macros: tuple[tuple[str, object], ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int = 0
    alignment: int = 0

    @classmethod
    def of(
        cls,
        file: str,
        entry: str,
        macros: Mapping[str, object],
        grid: tuple[int, ...],
        block: tuple[int, ...],
        shared_bytes: int = 0,
        alignment: int = 0,
    ) -> Launch:
        """Make a launch from a mapping of macros and grids of one to three axes."""
        g, b = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        return cls(
            file, entry, tuple(sorted(macros.items())), (g[0], g[1], g[2]), (b[0], b[1], b[2]), shared_bytes, alignment
        )

    @property
    def threads(self) -> int:
        """Threads in a block."""
        return self.block[0] * self.block[1] * self.block[2]


@dataclass(frozen=True)
class Plan:
    """One way to run a Spec.

    Args:
        algorithm: what users force it by, e.g. "direct" or "implicit_gemm".
        variant: tells plans of one algorithm apart, e.g. "64x64x16"; "" when there is one.
        launches: run in this order.
        summation: names the order of additions; plans of equal summation give equal bits.
        workspace_bytes: scratch that the launches share, as the argument named `workspace`.
        requires: lowest compute capability times ten, or an exact target such as "sm_90a".
    """

    algorithm: str
    variant: str
    launches: tuple[Launch, ...]
    summation: str
    workspace_bytes: int = 0
    requires: int | str = 75

    @property
    def name(self) -> str:
        """`algorithm/variant`, unique among the candidates of an operation; the same for every batch size."""
        return f"{self.algorithm}/{self.variant}" if self.variant else self.algorithm

    def fits(self, limits: DeviceLimits) -> bool:
        """Say whether a device can run every launch."""
        return limits.supports(self.requires) and all(
            launch.threads <= device_limits.MAX_THREADS_PER_BLOCK
            and launch.shared_bytes <= limits.shared_bytes
            and all(1 <= g <= most for g, most in zip(launch.grid, device_limits.MAX_GRID, strict=True))
            for launch in self.launches
        )
