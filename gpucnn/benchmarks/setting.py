"""Puts together how sections measure on a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks.case import Conditions
from gpucnn.benchmarks.ceilings import Ceilings
from gpucnn.benchmarks.measure import TURN_SECONDS
from gpucnn.benchmarks.own import Own
from gpucnn.benchmarks.reference_torch import Reference
from gpucnn.benchmarks.torch_training import WAYS
from gpucnn.errors import DeviceError

_TINY_BYTES = 1 << 16
_TINY_PRODUCT = 16


def conditions_of(
    backend: KernelBackend | None,
    sections: Sequence[str],
    *,
    repeats: int,
    say: Callable[[str], object],
    tiny: bool = False,
    data_dir: Path | None = None,
    ways: Sequence[str] = tuple(WAYS),
) -> Conditions:
    """Return how to measure sections.

    Args:
        backend: in use while they run; None where none of them needs one. On one that only pretends to be a GPU
            everything is tiny, and nothing is compared with PyTorch.
        sections: their names.
        repeats: pairs of a comparison.
        say: is told, in one line, that there is no PyTorch to compare with.
        tiny: cut sizes down.
        data_dir: of the MNIST files.
        ways: names of torch_training.WAYS.
    """

    def reference(device: str) -> Reference | None:
        try:
            return Reference(device)
        except DeviceError as error:
            say(str(error))
            return None

    pretended = backend is not None and backend.host_memory
    tiny = tiny or pretended
    own = None if backend is None else Own(backend, _TINY_BYTES) if tiny else Own(backend)
    beside = reference("cuda") if own is not None and not pretended else None
    ceilings = None
    if own is not None:
        ceilings = Ceilings(own, beside, _TINY_BYTES, _TINY_PRODUCT) if tiny else Ceilings(own, beside)
    return Conditions(
        own=own,
        reference=beside,
        cpu_reference=reference("cpu") if "cpu" in sections else None,
        repeats=repeats,
        turn_seconds=0.0 if tiny else TURN_SECONDS,
        tiny=tiny,
        data_dir=data_dir,
        ceilings=ceilings,
        ways=tuple(WAYS[name] for name in ways),
    )
