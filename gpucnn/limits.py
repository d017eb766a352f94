"""What a device allows one launch to ask for, by compute capability.

Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; CUDA occupancy calculator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MAX_THREADS_PER_BLOCK = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
STATIC_SHARED_BYTES = 48 * 1024
WARP = 32
REGISTERS = 65536
"""Of a multiprocessor, and the most that one block may take."""


@dataclass(frozen=True)
class DeviceLimits:
    """Sizes that a Plan must respect on one device.

    Args:
        capability: compute capability times ten, e.g. 90.
        shared_bytes: dynamic shared memory one block may opt in to, in bytes.
        multiprocessors: number of streaming multiprocessors.
        targets: exact architecture names beyond the capability that the device runs, e.g. ("sm_90a",).
    """

    capability: int
    shared_bytes: int
    multiprocessors: int
    targets: tuple[str, ...] = ()

    def supports(self, requires: int | str) -> bool:
        """Say whether a Plan that requires a capability (75) or an exact target ("sm_90a") runs here."""
        if isinstance(requires, str):
            return requires in self.targets
        return self.capability >= requires


# capability: (opt-in shared memory per block in KiB, multiprocessors of a common part, exact targets)
_KNOWN = {
    75: (64, 40, ()),
    80: (163, 108, ()),
    86: (99, 84, ()),
    89: (99, 128, ()),
    90: (227, 132, ("sm_90a",)),
    100: (227, 148, ("sm_100a",)),
    120: (99, 170, ("sm_120a",)),
}
CAPABILITIES = tuple(_KNOWN)


# capability: (resident warps, resident blocks, KiB of shared memory) of a multiprocessor
_RESIDENT = {
    75: (32, 16, 64),
    80: (64, 32, 164),
    86: (48, 16, 100),
    89: (48, 24, 100),
    90: (64, 32, 228),
    100: (64, 32, 228),
    120: (48, 24, 100),
}
_SCHEDULERS = 4
_REGISTER_GRANULE = 256
_SHARED_GRANULE, _SYSTEM_SHARED_BYTES = 128, 1024


def _registers_of_warp(registers: int) -> int:
    return -(-registers * WARP // _REGISTER_GRANULE) * _REGISTER_GRANULE


def registers_of_block(registers: int, threads: int) -> int:
    """Return what a block takes of the registers, which each warp is given in multiples of 256."""
    return -(-threads // WARP) * _registers_of_warp(registers)


def resident_warps(capability: int) -> int:
    """Return the most warps that a multiprocessor of a known compute capability keeps at a time."""
    return _RESIDENT[capability][0]


def resident_blocks(capability: int, *, threads: int, registers: int, shared_bytes: int) -> int:
    """Return how many blocks of a kernel a multiprocessor runs at a time; 0 where one does not fit.

    Args:
        capability: a known compute capability times ten.
        threads: of a block.
        registers: of a thread.
        shared_bytes: of a block, static and dynamic.
    """
    most_warps, most_blocks, shared_kib = _RESIDENT[capability]
    warps = -(-threads // WARP)
    granule, taken = (256, 0) if capability < 80 else (_SHARED_GRANULE, _SYSTEM_SHARED_BYTES)
    shared = -(-shared_bytes // granule) * granule + taken
    by_registers = REGISTERS // _SCHEDULERS // max(_registers_of_warp(registers), 1) * _SCHEDULERS
    return min(
        most_blocks,
        most_warps // warps,
        by_registers // warps,
        shared_kib * 1024 // shared if shared else most_blocks,
    )


def limits_of(capability: int, *, multiprocessors: int | None = None) -> DeviceLimits:
    """Return the limits of a compute capability (75, 80, 86, 89, 90, 100 or 120).

    Raises:
        ValueError: the capability is not in the table.
    """
    if capability not in _KNOWN:
        raise ValueError(f"unknown compute capability {capability!r}; known: {', '.join(map(str, _KNOWN))}")
    shared_kib, count, targets = _KNOWN[capability]
    limits = DeviceLimits(capability, shared_kib * 1024, count, targets)
    return limits if multiprocessors is None else replace(limits, multiprocessors=multiprocessors)
