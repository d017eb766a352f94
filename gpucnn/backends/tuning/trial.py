"""Runs plans of one operation on arrays that nothing else uses, and compares what they write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.devices.bound_launches import BoundLaunches
from gpucnn.devices.device import Array, Device
from gpucnn.specs import Spec

_PERIOD = 65521
"""Inputs repeat after so many numbers: a prime, so that no tile of theirs looks like its neighbour."""
_REFERENCE_POISON, _POISON = 0xFF, 0x7F
"""What outputs are filled with before a plan runs: never the same as in the reference, so that what neither writes
differs too."""
_KEPT = {"cross_entropy_forward": frozenset({"weight"})}
"""Floating inputs that are copied: class weights, whose sum is divided by."""

Outputs = Mapping[str, np.ndarray]


class Trial:
    """The operands of one call, again: inputs of the same shapes and dtypes, outputs of its own.

    Floating inputs are normal random numbers, always the same; others (labels, indices, random state) are copied from
    the call, because not every integer has a meaning there.

    Args:
        device: runs the plans.
        operation: their operation.
        spec: gives the tolerance.
        operands: of the call, without workspace.
        outputs: names of those that plans write.
    """

    def __init__(
        self, device: Device, operation: str, spec: Spec, operands: Mapping[str, Any], outputs: frozenset[str]
    ) -> None:
        self._device = device
        self._spec = spec
        self._terms = spec.terms(operation)
        self._outputs = outputs
        self._operands: dict[str, Any] = {}
        for seed, (name, value) in enumerate(operands.items()):
            if value is None or isinstance(value, (int, float, np.generic)):
                self._operands[name] = value
                continue
            own = self._operands[name] = device.scratch(tuple(value.shape), value.dtype)
            if name in outputs:
                continue
            if _is_floating(value.dtype) and name not in _KEPT.get(operation, ()):
                _fill(device, own, np.random.default_rng(seed).standard_normal(_PERIOD).astype(value.dtype))
            else:
                device.copy(own, value)

    def run(self, launches: BoundLaunches, workspace: Array | None) -> None:
        """Launch a plan."""
        operands = self._operands if workspace is None else {**self._operands, "workspace": workspace}
        arrays = {n: v for n, v in operands.items() if v is not None and not isinstance(v, (int, float, np.generic))}
        launches(operands, {name: self._device.address(array) for name, array in arrays.items()})

    def outputs_of(self, launches: BoundLaunches, workspace: Array | None, *, reference: bool = False) -> Outputs:
        """Poison the outputs and the workspace, run a plan, and return what it wrote, on the host."""
        poison = _REFERENCE_POISON if reference else _POISON
        written = {name: self._operands[name] for name in self._outputs if self._operands[name] is not None}
        for array in (*written.values(), *(() if workspace is None else (workspace,))):
            _fill(self._device, array, np.full(_PERIOD * array.dtype.itemsize, poison, np.uint8).view(array.dtype))
        self.run(launches, workspace)
        return {name: self._device.to_host(array) for name, array in written.items()}

    def disagreement(self, found: Outputs, expected: Outputs) -> str | None:
        """Return None when outputs equal the reference within the Spec's tolerance, else how they differ."""
        for name, want in expected.items():
            difference = _difference(found[name], want, self._spec.tolerance(self._terms))
            if difference is not None:
                return f"{name}: {difference}"
        return None


def same_bits(found: Outputs, expected: Outputs) -> bool:
    """Say whether all outputs are equal in every bit."""
    return all(found[name].tobytes() == expected[name].tobytes() for name in expected)


def _is_floating(dtype: np.dtype[Any]) -> bool:
    return dtypes.name_of(dtype) in dtypes.FLOATING


def _fill(device: Device, array: Array, block: np.ndarray) -> None:
    """Repeat a host block all over an array; all but the first copy of it is made on the device."""
    flat = array.reshape(-1)
    done = min(flat.size, block.size)
    device.copy(flat[:done], block[:done])
    while done < flat.size:
        step = min(done, flat.size - done)
        device.copy(flat[done : done + step], flat[:step])
        done += step


def _difference(found: np.ndarray, want: np.ndarray, tolerance: float) -> str | None:
    if found.tobytes() == want.tobytes():
        return None
    if not _is_floating(want.dtype):
        wrong = np.flatnonzero(found != want)
        return f"{wrong.size} of {want.size} elements differ, the first is {wrong[0]}"
    got, expected = found.astype(np.float64).ravel(), want.astype(np.float64).ravel()
    usual = np.isfinite(expected)
    strange = ~usual & ~((got == expected) | (np.isnan(got) & np.isnan(expected)))
    if strange.any():
        return f"{int(strange.sum())} of {want.size} elements are not the NaN or infinity of the direct kernel"
    bound = tolerance * max(float(np.max(np.abs(expected[usual]), initial=0.0)), float(np.finfo(np.float32).tiny))
    with np.errstate(invalid="ignore"):
        error = np.where(usual, np.abs(got - expected), 0.0)
    wrong = np.flatnonzero(~(error <= bound))
    if not wrong.size:
        return None
    worst = "NaN" if np.isnan(error).any() else f"{float(error.max()):.3g}"
    return (
        f"{wrong.size} of {want.size} elements differ by more than {bound:.3g}, the first is {wrong[0]}, "
        f"the largest error {worst}"
    )
