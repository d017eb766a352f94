"""`gpucnn bench`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from gpucnn import backends
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks import SECTIONS, report
from gpucnn.benchmarks.case import Conditions
from gpucnn.benchmarks.ceilings import Ceilings
from gpucnn.benchmarks.measure import REPEATS, TURN_SECONDS
from gpucnn.benchmarks.own import Own
from gpucnn.benchmarks.reference_torch import Reference
from gpucnn.benchmarks.runner import Run
from gpucnn.errors import DeviceError

_TINY_BYTES = 1 << 16
_TINY_PRODUCT = 16


def _reference(device: str) -> Reference | None:
    """Return PyTorch on a device, or None with the reason on stderr."""
    try:
        return Reference(device)
    except DeviceError as error:
        click.echo(str(error), err=True)
        return None


def _backend(name: str | None, wanted: Sequence[str]) -> KernelBackend | None:
    """Return the backend to measure on; None where no section asked for by name needs one and there is no GPU.

    Raises:
        DeviceError: the backend does not work here.
    """
    if name is None:
        reason = backends.available("cuda")
        if reason is not None and not any(SECTIONS[section] for section in wanted):
            left_out = ", ".join(section for section, needs_device in SECTIONS.items() if needs_device)
            click.echo(f"{left_out}: {report.NOT_MEASURED}, {reason}", err=True)
            return None
    backends.set_backend(name or "cuda")
    chosen = backends.get_backend()
    return chosen if isinstance(chosen, KernelBackend) else None


def conditions_of(
    backend: KernelBackend | None, sections: Sequence[str], *, repeats: int, tiny: bool, data_dir: Path | None = None
) -> Conditions:
    """Return how to measure sections on a backend; everything is tiny on one that only pretends to be a GPU."""
    pretended = backend is not None and backend.host_memory
    tiny = tiny or pretended
    own = None if backend is None else Own(backend, _TINY_BYTES) if tiny else Own(backend)
    reference = _reference("cuda") if own is not None and not pretended else None
    ceilings = None
    if own is not None:
        ceilings = Ceilings(own, reference, _TINY_BYTES, _TINY_PRODUCT) if tiny else Ceilings(own, reference)
    return Conditions(
        own,
        reference,
        _reference("cpu") if "cpu" in sections else None,
        repeats,
        0.0 if tiny else TURN_SECONDS,
        tiny,
        None if data_dir is None else str(data_dir),
        ceilings,
    )


@click.command(name="bench")
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
@click.option(
    "--repeats", type=click.IntRange(1), default=REPEATS, show_default=True, help="Pairs of a comparison, at least."
)
@click.option("--filter", "pattern", default="", help="Only cases whose name contains this.")
@click.option("--time-budget", type=click.FloatRange(0, min_open=True), help="No case starts after so many seconds.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Also write JSON, case by case.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="GPUCNN_DATA_DIR", help="Folder of MNIST's files, for mnist."
)
@click.option(
    "--backend",
    type=click.Choice(["cuda", "emulated"]),
    help="Where the kernels run; emulated tries the benchmark without a GPU, at tiny sizes.  [default: cuda]",
)
@click.option("--tiny", is_flag=True, help="Sizes cut down, to try the benchmark; the figures mean nothing.")
def command(
    sections: tuple[str, ...],
    repeats: int,
    pattern: str,
    time_budget: float | None,
    path: Path | None,
    data_dir: Path | None,
    backend: str | None,
    tiny: bool,
) -> None:
    """Measure SECTIONS beside PyTorch in this process and print tables of times and ratios.

    Without SECTIONS, all that can be measured here. Ratios are PyTorch's time / gpucnn's, medians of pairs taken by
    turns, with their quartiles: above 1 gpucnn is the quicker.
    """
    chosen = _backend(backend, sections)
    wanted = sections or [name for name, needs_device in SECTIONS.items() if chosen or not needs_device]
    conditions = conditions_of(chosen, wanted, repeats=repeats, tiny=tiny, data_dir=data_dir)
    facts = report.about(conditions, ["gpucnn", *sys.argv[1:]])
    run = Run(
        wanted,
        conditions,
        pattern=pattern,
        seconds=math.inf if time_budget is None else time_budget,
        store=lambda results: None if path is None else report.write(path, facts, results),
    )
    if conditions.tiny:
        click.echo("TINY sizes, to try the benchmark: no figure below counts")
    try:
        with click.progressbar(length=run.cases, file=sys.stderr, item_show_func=lambda name: name or "") as bar:
            run.measure(lambda name: bar.update(1, name))
    finally:
        click.echo(report.text(run.results))
