"""`gpucnn bench`."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click

from gpucnn.benchmarks import SECTIONS, report
from gpucnn.benchmarks.case import Conditions
from gpucnn.benchmarks.measure import REPEATS
from gpucnn.benchmarks.reference_torch import Reference
from gpucnn.benchmarks.runner import Run
from gpucnn.errors import DeviceError


def _reference(device: str) -> Reference | None:
    """Return PyTorch on a device, or None with the reason on stderr."""
    try:
        return Reference(device)
    except DeviceError as error:
        click.echo(str(error), err=True)
        return None


@click.command(name="bench")
@click.argument("sections", nargs=-1, type=click.Choice(SECTIONS))
@click.option(
    "--repeats", type=click.IntRange(1), default=REPEATS, show_default=True, help="Pairs of a comparison, at least."
)
@click.option("--filter", "pattern", default="", help="Only cases whose name contains this.")
@click.option("--time-budget", type=click.FloatRange(0, min_open=True), help="No case starts after so many seconds.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Also write JSON, case by case.")
@click.option("--tiny", is_flag=True, help="Sizes cut down, to try the benchmark; the figures mean nothing.")
def command(
    sections: tuple[str, ...], repeats: int, pattern: str, time_budget: float | None, path: Path | None, tiny: bool
) -> None:
    """Measure SECTIONS (all by default) beside PyTorch in this process and print tables of times and ratios.

    Ratios are the other's time / gpucnn's, medians of pairs with their quartiles: above 1 gpucnn is the quicker.
    """
    conditions = Conditions(
        _reference("cpu"), repeats, turn_seconds=0.0 if tiny else Conditions.turn_seconds, tiny=tiny
    )
    facts = report.about(conditions, ["gpucnn", *sys.argv[1:]])
    run = Run(
        sections or SECTIONS,
        conditions,
        pattern=pattern,
        seconds=math.inf if time_budget is None else time_budget,
        store=lambda results: None if path is None else report.write(path, facts, results),
    )
    if tiny:
        click.echo("TINY sizes, to try the benchmark: no figure below counts")
    try:
        with click.progressbar(length=run.cases, file=sys.stderr, item_show_func=lambda name: name or "") as bar:
            run.measure(lambda name: bar.update(1, name))
    finally:
        click.echo(report.text(run.results))
