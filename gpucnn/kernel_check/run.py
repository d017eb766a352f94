"""One launch in the emulated device's check build, in several orders of threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpucnn.devices.emulated import EmulatedKernel, EmulatedModule, Report
from gpucnn.devices.emulated.kernel import ORDERS
from gpucnn.errors import KernelError
from gpucnn.kernel_check.description import Launch, argument_of, expected_of, is_inout
from gpucnn.kernel_check.entries import identifier
from gpucnn.kernel_source import KernelSource
from gpucnn.limits import CAPABILITIES, limits_of

WRONG, ORDER_DEPENDENT = "wrong-output", "order-dependent"
"""Kinds of findings beside those of the emulated device."""


@dataclass(frozen=True)
class Finding:
    """What one launch showed.

    Attributes:
        report: kind, places, threads and variable.
        order: of the threads in which it was seen.
    """

    report: Report
    order: str


def run_checked(
    source: KernelSource,
    launch: Launch,
    *,
    orders: Sequence[str] = ORDERS,
    capability: int = 90,
    timeout: float = 60.0,
    seed: int = 0,
) -> list[Finding]:
    """Run a launch in each order of threads until one shows a fault; return what was found.

    Where all are clean, outputs must be the same bits in every order, and those that the description expects.

    Args:
        source: the text, see `read_kernel`.
        launch: what to run.
        orders: of threads and blocks.
        capability: that the text is compiled for, times ten; its limit of shared memory holds.
        timeout: processor time in seconds after which a kernel counts as endless.
        seed: of the random order.

    Raises:
        DeviceError: the emulated device does not run here.
        KernelError: the text does not compile with g++, or has no such entry.
        ValueError, TypeError: the arguments or the launch do not fit the kernel.
    """
    name = _entry(source, launch)
    marked = tuple(replace(p, inout=p.inout or is_inout(launch, p.name)) for p in source.entries[name])
    entries = {**source.entries, name: marked}
    limits = limits_of(capability if capability in CAPABILITIES else 90)
    module = EmulatedModule(source.text, build="check", name=source.file, architecture=capability, entries=entries)
    kernel = module.kernel(name)
    _require_known(launch, kernel)
    results: dict[str, list[Any]] = {}
    for order in orders:
        arguments = [argument_of(launch, parameter) for parameter in kernel.parameters]
        try:
            kernel(
                launch.grid, launch.block, arguments, launch.shared_bytes, order=order, seed=seed, timeout=timeout,
                ignore=launch.ignore, allow_exit=launch.allow_exit, limit=limits.shared_bytes,
            )  # fmt: skip
        except KernelError as error:
            found = [report for report in error.reports if isinstance(report, Report)]
            return [Finding(report, order) for report in dict.fromkeys(found)]
        results[order] = arguments
    return [*_order_dependent(kernel, results), *_wrong(kernel, launch, results)]


def _entry(source: KernelSource, launch: Launch) -> str:
    if launch.entry is not None:
        name = identifier(launch.entry)
        source.parameters(name)
        return name
    if len(source.entries) > 1:
        raise ValueError(f"{source.file} has several entries: {', '.join(source.entries)}; name one as `entry`")
    return next(iter(source.entries))


def _require_known(launch: Launch, kernel: EmulatedKernel) -> None:
    names = [parameter.name for parameter in kernel.parameters]
    if unknown := [name for name in launch.arguments if name not in names]:
        raise ValueError(f"{kernel.entry} has no parameter {unknown[0]!r}; it has {', '.join(names) or 'none'}")


def _order_dependent(kernel: EmulatedKernel, results: Mapping[str, list[Any]]) -> Iterator[Finding]:
    """Yield outputs whose bits depend on the order of threads, as those of float atomics do."""
    (first, base), *others = results.items()
    for at, parameter in enumerate(kernel.parameters):
        for order, arguments in others:
            one, two = base[at], arguments[at]
            if isinstance(one, np.ndarray) and one.tobytes() != two.tobytes():
                index = _first_of(_bytes(one) != _bytes(two), one)
                message = f"element {index} is {one[index]} in {first} order and {two[index]} in {order} order"
                yield Finding(_report(kernel, ORDER_DEPENDENT, message, parameter.name, one, index), order)
                break


def _wrong(kernel: EmulatedKernel, launch: Launch, results: Mapping[str, list[Any]]) -> Iterator[Finding]:
    """Yield outputs that are not what the description expects, in the first order."""
    order, arguments = next(iter(results.items()))
    for parameter, found in zip(kernel.parameters, arguments, strict=True):
        if not isinstance(found, np.ndarray):
            continue
        expected = expected_of(launch, parameter, found.shape, found.dtype)
        if expected is None:
            continue
        wanted, values = expected.values.astype(np.float64), found.astype(np.float64)
        allowed = expected.tolerance * np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
        with np.errstate(invalid="ignore"):
            near = (np.abs(values - wanted) <= allowed) | (values == wanted)
        wrong = ~(near | (np.isnan(values) & np.isnan(wanted)))
        if wrong.any():
            index = _first_of(wrong, found)
            message = f"{int(wrong.sum())} of {found.size} elements differ, the first is {index}: "
            message += f"{values[index]:.9g}, expected {wanted[index]:.9g}"
            yield Finding(_report(kernel, WRONG, message, parameter.name, found, index), order)


def _bytes(array: np.ndarray) -> np.ndarray:
    """Return an array's elements as unsigned numbers of their bits, so that NaN equals NaN."""
    return array.view(np.dtype(f"V{array.itemsize}")).reshape(array.shape)


def _first_of(chosen: np.ndarray, array: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(chosen)), array.shape))


def _report(
    kernel: EmulatedKernel, kind: str, message: str, name: str, array: np.ndarray, index: tuple[int, ...]
) -> Report:
    offset = int(np.ravel_multi_index(index, array.shape)) * array.itemsize if index else 0
    return Report(
        kind, message, kernel.entry, variable=f"argument {name!r}", offset=offset, variable_bytes=array.nbytes
    )
