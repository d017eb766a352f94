"""What a device allows one launch to ask for, by compute capability.

Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MAX_THREADS_PER_BLOCK = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
STATIC_SHARED_BYTES = 48 * 1024
WARP = 32


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
