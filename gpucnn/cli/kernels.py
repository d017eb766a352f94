"""`gpucnn kernels`: what the compiler makes of a model's kernels, without a GPU."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
import numpy as np

from gpucnn import zoo
from gpucnn.autograd import tensor
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.devices import nvrtc
from gpucnn.devices.null import NullDevice
from gpucnn.errors import DeviceError
from gpucnn.limits import CAPABILITIES, limits_of


def step_modules(capability: int, batch_size: int) -> NullDevice:
    """Return a null device that has seen one LeNet-5 training step: its modules and its launches."""
    device = NullDevice(limits_of(capability))
    with use_backend(KernelBackend(device)):
        model = zoo.lenet5()
        model.compile()
        device.launches.clear()
        labels = tensor(np.zeros(batch_size, np.int32))
        model.train_step(tensor(np.zeros((batch_size, 28, 28, 1), np.float32)), labels)
    return device


def report(arch: str, batch_size: int) -> list[dict[str, Any]]:
    """Compile the kernels of a LeNet-5 step for an architecture; return one row for each entry launched.

    Raises:
        DeviceError: there is no NVRTC.
        KernelError: a kernel does not compile.
    """
    missing = nvrtc.available()
    if missing is not None:
        raise DeviceError(missing)
    device = step_modules(int(arch.removeprefix("sm_")), batch_size)
    modules = list(device.modules.items())
    rows: list[dict[str, Any]] = []
    with click.progressbar(modules, label=f"compiling for {arch}", file=sys.stderr) as bar:
        for source, wanted in bar:
            for entry in nvrtc.compile_report(source, arch):
                if entry.entry in wanted:
                    rows.append(
                        {
                            "file": source.file,
                            "entry": entry.entry,
                            "registers": entry.registers,
                            "spill_bytes": entry.spill_stores + entry.spill_loads,
                            "shared_bytes": entry.shared_bytes,
                            "stack_bytes": entry.stack_bytes,
                            "launches": device.launches.count((source, entry.entry)),
                        }
                    )
    return rows


@click.command(name="kernels")
@click.option(
    "--arch",
    type=click.Choice([f"sm_{c}" for c in CAPABILITIES]),
    default="sm_90",
    show_default=True,
    help="Architecture to compile for.",
)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images of the step.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(arch: str, batch_size: int, as_json: bool) -> None:
    """Compile the kernels of a LeNet-5 training step with NVRTC and report registers, spills and shared memory."""
    rows = report(arch, batch_size)
    if as_json:
        click.echo(json.dumps(rows))
        return
    click.echo(f"{'entry':<52}{'registers':>10}{'spills':>8}{'shared':>8}{'stack':>7}{'launches':>10}")
    for row in rows:
        click.echo(
            f"{row['entry']:<52}{row['registers']:>10}{row['spill_bytes']:>8}{row['shared_bytes']:>8}"
            f"{row['stack_bytes']:>7}{row['launches']:>10}"
        )
    click.echo(
        f"{sum(row['launches'] for row in rows)} launches a step; bytes per thread (spills, stack) and block (shared)"
    )
