"""`gpucnn bench`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from gpucnn import backends
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks import SECTIONS, report
from gpucnn.benchmarks.case import NOT_MEASURED
from gpucnn.benchmarks.measure import REPEATS
from gpucnn.benchmarks.runner import Results, Run
from gpucnn.benchmarks.setting import conditions_of
from gpucnn.benchmarks.torch_training import WAYS


def _backend(name: str | None, wanted: Sequence[str]) -> KernelBackend | None:
    """Return the backend to measure on; None where no section asked for by name needs one and there is no GPU.

    Raises:
        DeviceError: the backend does not work here.
    """
    if name is None:
        reason = backends.available("cuda")
        if reason is not None and not any(SECTIONS[section].needs_device for section in wanted):
            if not wanted:
                left_out = ", ".join(name for name, section in SECTIONS.items() if section.needs_device)
                click.echo(f"{left_out}: {NOT_MEASURED}, {reason}", err=True)
            return None
    backends.set_backend(name or "cuda")
    chosen = backends.get_backend()
    return chosen if isinstance(chosen, KernelBackend) else None


def _command_line(words: list[str]) -> list[str]:
    """Return the command as `gpucnn` would be called, also where scripts/benchmark.py was."""
    return ["gpucnn", *words] if "bench" in words[:2] else ["gpucnn", "bench", *words]


def _ways(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Return the names of --ways.

    Raises:
        click.BadParameter: one is unknown.
    """
    names = [name.strip() for name in value.split(",")]
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise click.BadParameter(f"unknown {', '.join(map(repr, unknown))}; known: {', '.join(WAYS)}")
    return [name for name in WAYS if name in names]


@click.command(name="bench", short_help="Measure speed beside PyTorch.")
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)), metavar="[SECTIONS]...")
@click.option(
    "--repeats", type=click.IntRange(1), default=REPEATS, show_default=True, help="Pairs of a comparison, at least."
)
@click.option(
    "--filter", "patterns", multiple=True, help="Only cases whose name contains this; given several times, any of them."
)
@click.option("--time-budget", type=click.FloatRange(0, min_open=True), help="No case starts after so many seconds.")
@click.option(
    "--ways",
    callback=_ways,
    default=",".join(WAYS),
    show_default=True,
    help="How PyTorch trains in step, mnist and block: what is left out is not tried.",
)
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Also write JSON, case by case.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="GPUCNN_DATA_DIR", help="Folder of MNIST's files, for mnist."
)
@click.option(
    "--backend",
    type=click.Choice(["cuda", "emulated"]),
    help="Where the kernels run; emulated tries the benchmark without a GPU, at tiny sizes.  [default: cuda]",
)
@click.option("--commit", help="Name of the version, where the tree is a copy without .git.")
@click.option("--tiny", is_flag=True, help="Sizes cut down, to try the benchmark; the figures mean nothing.")
def command(
    sections: tuple[str, ...],
    repeats: int,
    patterns: tuple[str, ...],
    time_budget: float | None,
    ways: list[str],
    path: Path | None,
    data_dir: Path | None,
    backend: str | None,
    commit: str | None,
    tiny: bool,
) -> None:
    """Measure SECTIONS beside PyTorch in this process and print tables of times and ratios.

    SECTIONS are step, mnist, block, pool, kernels (on a GPU), cpu and overhead; without any, all that can be measured
    here. Ratios are PyTorch's time / gpucnn's, medians of pairs taken by turns, with their quartiles: above 1 gpucnn is
    the quicker. bounds, which runs only when named, measures nothing: it compiles the kernels for an H200 and tells
    what bounds each.
    """
    chosen = _backend(backend, sections)
    wanted = sections or [
        name for name, section in SECTIONS.items() if not section.by_name_only and (chosen or not section.needs_device)
    ]
    conditions = conditions_of(
        chosen, wanted, repeats=repeats, say=partial(click.echo, err=True), tiny=tiny, data_dir=data_dir, ways=ways
    )
    facts = report.about(conditions, _command_line(sys.argv[1:]), commit)

    def store(results: Results) -> None:
        if path is not None:
            report.write(path, facts, conditions, results)

    run = Run(
        wanted,
        conditions,
        patterns=patterns,
        seconds=math.inf if time_budget is None else time_budget,
        store=store,
    )
    store(run.results)  # a file that cannot be written is told of now, not after the first case
    if conditions.tiny:
        click.echo("TINY sizes, to try the benchmark: no figure below counts")
    try:
        with click.progressbar(length=run.cases, file=sys.stderr, item_show_func=lambda name: name or "") as bar:
            run.measure(lambda section, row: bar.update(1, f"{section}: {row['case']}"))
    finally:
        click.echo(report.text(run.results))
