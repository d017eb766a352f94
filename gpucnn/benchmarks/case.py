"""What a section is made of: cases that each measure one row, and the columns in which the rows are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpucnn.benchmarks.ceilings import Ceilings
from gpucnn.benchmarks.measure import REPEATS, TURN_SECONDS
from gpucnn.benchmarks.own import Own
from gpucnn.benchmarks.reference_torch import Reference
from gpucnn.benchmarks.torch_training import WAYS, Way
from gpucnn.errors import DeviceError

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Column:
    """A column of a section's table.

    Args:
        key: of the row's value.
        heading: shown above.
        form: "text", "seconds", "ratio" (a Spread's facts), "percent", "bytes", "number", "count".
        absent: shown for None.
    """

    key: str
    heading: str
    form: str = "text"
    absent: str = NOT_MEASURED


@dataclass(frozen=True)
class Case:
    """One row.

    Args:
        name: unique within its section.
        measure: makes the row's values by the columns' keys; DeviceError where this cannot be measured here.
    """

    name: str
    measure: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Conditions:
    """How a section measures.

    Args:
        own: gpucnn on a device that launches kernels, or None where only sections run that need none.
        reference: PyTorch on that device, or None where there is none to compare with.
        cpu_reference: PyTorch on the CPU, or None.
        repeats: pairs of a comparison.
        turn_seconds: how long a turn of runs lasts at least.
        tiny: sizes cut down, to try the code where no figure counts.
        data_dir: folder of the MNIST files; None for GPUCNN_DATA_DIR.
        ceilings: of this device, or None.
        ways: how PyTorch trains; those that are left out are not tried.
    """

    own: Own | None = None
    reference: Reference | None = None
    cpu_reference: Reference | None = None
    repeats: int = REPEATS
    turn_seconds: float = TURN_SECONDS
    tiny: bool = False
    data_dir: Path | None = None
    ceilings: Ceilings | None = None
    ways: tuple[Way, ...] = tuple(WAYS.values())

    @property
    def device(self) -> Own:
        """gpucnn on the device; DeviceError where there is none."""
        if self.own is None:
            raise DeviceError("this needs a device that launches kernels")
        return self.own
