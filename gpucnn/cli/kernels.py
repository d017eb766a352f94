"""`gpucnn kernels`: what the compiler makes of a model's kernels, and which plans run, without a GPU if need be."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from click.core import ParameterSource

from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.cli.plans import STEPS, kernel_backend, plan_rows, print_plans, training_step
from gpucnn.devices import nvrtc
from gpucnn.devices.null import NullDevice
from gpucnn.errors import DeviceError
from gpucnn.limits import CAPABILITIES, limits_of
from gpucnn.mixed_precision import PRECISIONS


def step_modules(capability: int, batch_size: int, model: str = "lenet5", precision: str = "float32") -> NullDevice:
    """Return a null device that has seen one training step of a model: its modules and its launches."""
    device = NullDevice(limits_of(capability))
    with use_backend(KernelBackend(device, tune="off")):
        step = training_step(model, batch_size, precision)
        device.launches.clear()
        step()
    return device


def report(arch: str, batch_size: int, model: str = "lenet5", precision: str = "float32") -> list[dict[str, Any]]:
    """Compile the kernels of a model's step for an architecture; return one row for each entry launched.

    Raises:
        DeviceError: there is no NVRTC.
        KernelError: a kernel does not compile.
    """
    missing = nvrtc.available()
    if missing is not None:
        raise DeviceError(missing)
    device = step_modules(int(arch.removeprefix("sm_")), batch_size, model, precision)
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


@click.command(name="kernels", short_help="Report registers and plans of a step's kernels.")
@click.option(
    "--arch",
    type=click.Choice([f"sm_{c}" for c in CAPABILITIES]),
    default="sm_90",
    show_default=True,
    help="Architecture to compile for.",
)
@click.option("--model", type=click.Choice(tuple(STEPS)), default="lenet5", show_default=True, help="Whose step.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images of the step.")
@click.option(
    "--precision", type=click.Choice(tuple(PRECISIONS)), default="float32", show_default=True, help="Of the step."
)
@click.option("--plans", is_flag=True, help="Show which plan each operation runs, and why; nothing is compiled for it.")
@click.option(
    "--backend",
    type=click.Choice(["cuda", "emulated"]),
    help="With --plans: take a step there, tuned as GPUCNN_TUNE says, instead of asking what --arch would run untuned.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.pass_context
def command(
    ctx: click.Context,
    arch: str,
    model: str,
    batch_size: int,
    precision: str,
    plans: bool,
    backend: str | None,
    as_json: bool,
) -> None:
    """Compile the kernels of a training step with NVRTC and report registers, spills and shared memory; or show its
    plans.
    """
    if backend is not None and not plans:
        raise click.UsageError("--backend goes with --plans: registers are those of --arch")
    if backend is not None and ctx.get_parameter_source("arch") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--arch and --backend exclude each other: a backend has an architecture")
    if plans:
        null = NullDevice(limits_of(int(arch.removeprefix("sm_"))))
        chosen = KernelBackend(null, tune="off") if backend is None else kernel_backend(backend)
        rows = plan_rows(chosen, model, batch_size, precision)
    else:
        rows = report(arch, batch_size, model, precision)
    if as_json:
        click.echo(json.dumps(rows))
    elif plans:
        print_plans(rows)
    else:
        _print_registers(rows)


def _print_registers(rows: list[dict[str, Any]]) -> None:
    click.echo(f"{'entry':<52}{'registers':>10}{'spills':>8}{'shared':>8}{'stack':>7}{'launches':>10}")
    for row in rows:
        click.echo(
            f"{row['entry']:<52}{row['registers']:>10}{row['spill_bytes']:>8}{row['shared_bytes']:>8}"
            f"{row['stack_bytes']:>7}{row['launches']:>10}"
        )
    click.echo(
        f"{sum(row['launches'] for row in rows)} launches a step; bytes per thread (spills, stack) and block (shared)"
    )
