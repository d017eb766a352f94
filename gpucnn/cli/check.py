"""`gpucnn check`: a kernel file of one's own, compiled and run where faults are seen."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import click

from gpucnn.devices import nvrtc
from gpucnn.devices.emulated import KINDS, Report
from gpucnn.devices.emulated.kernel import ORDERS
from gpucnn.errors import DeviceError
from gpucnn.kernel_check import Compilation, Finding, Launch, compile_for, read_kernel, read_launch, run_checked
from gpucnn.kernel_source import KernelSource

EXAMPLE = ("block_sum.cu", "block_sum_launch.py")


def _architectures(ctx: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if not re.fullmatch(r"sm_\d+[af]?", name):
            raise click.BadParameter(f"{name!r} is no architecture such as sm_90")
    return names


def _definitions(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    macros = {}
    for definition in value:
        name, _, text = definition.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise click.BadParameter(f"{definition!r} is no NAME=VALUE")
        macros[name] = text or "1"
    return macros


@click.command(name="check")
@click.argument("kernel", required=False, type=click.Path(path_type=Path))
@click.option(
    "--launch", "description", type=click.Path(path_type=Path),
    help="Description of one launch: .py, .json, or .toml (Python 3.11).",
)  # fmt: skip
@click.option("--entry", help="Which kernel: its name, of a template with arguments: 'scale<float>'.")
@click.option(
    "--arch", "architectures", default="sm_80,sm_90", show_default=True, callback=_architectures,
    help="Architectures to compile for, between commas; the launch runs as on the first.",
)  # fmt: skip
@click.option("--define", "-D", "macros", multiple=True, callback=_definitions, help="NAME=VALUE, before the text.")
@click.option(
    "--order", type=click.Choice(["all", *ORDERS]), default="all", show_default=True,
    help="In which threads run; all also compares the outputs' bits.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the random order.")
@click.option("--ignore", multiple=True, type=click.Choice(KINDS), help="A kind of finding to leave out.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True,
    help="Processor seconds after which a kernel counts as endless.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--example", is_flag=True, help=f"Write {EXAMPLE[0]} and {EXAMPLE[1]} here to start from.")
@click.pass_context
def command(ctx: click.Context, kernel: Path | None, description: Path | None, entry: str | None,
            architectures: list[str], macros: dict[str, str], order: str, seed: int, ignore: tuple[str, ...],
            timeout: float, as_json: bool, example: bool) -> None:  # fmt: skip
    """Compile KERNEL.cu for real architectures, and run one launch of it in an emulator that reports its faults.

    Reported are races with both lines and threads, accesses out of bounds or misaligned, reads of what nothing wrote,
    divergent barriers, outputs left unwritten, results that depend on the order of threads, and outputs that are not
    those expected. Exit code 1 when something is found or does not compile.
    """
    if example:
        if kernel is not None or description is not None:
            raise click.UsageError("--example stands alone")
        _write_example(Path())
        return
    if kernel is None:
        raise click.UsageError("give a kernel file, or --example to start from one")
    launch = None if description is None else read_launch(description)
    if launch is not None and entry is not None:
        launch = replace(launch, entry=entry)
    source = read_kernel(kernel, {**(launch.macros if launch else {}), **macros}, launch.entry if launch else entry)
    missing = nvrtc.available()
    if missing is not None and launch is None:
        raise DeviceError(f"{kernel.name} is not compiled, and there is no --launch to run: {missing}")
    compiled = [] if missing is not None else [compile_for(source, arch) for arch in architectures]
    broken = any(compilation.errors for compilation in compiled)
    findings = None
    if launch is not None and not broken:
        findings = _run(source, launch, architectures[0], order, seed, ignore, timeout)
    if as_json:
        click.echo(json.dumps(_described(source, compiled, missing, findings)))
    else:
        _print_compiled(source, compiled, missing)
        if findings is not None and launch is not None:
            _print_findings(source, kernel.parent, launch, findings)
    if findings or broken:
        ctx.exit(1)


def _run(source: KernelSource, launch: Launch, arch: str, order: str, seed: int, ignore: tuple[str, ...],
         timeout: float) -> list[Finding]:  # fmt: skip
    chosen = replace(launch, ignore=(*launch.ignore, *ignore))
    capability = int(re.sub(r"\D", "", arch))
    orders = ORDERS if order == "all" else (order,)
    return run_checked(source, chosen, orders=orders, capability=capability, timeout=timeout, seed=seed)


def _write_example(folder: Path) -> None:
    for name in EXAMPLE:
        if (folder / name).exists():
            raise click.ClickException(f"{name} exists already")
    for name in EXAMPLE:
        text = (resources.files("gpucnn.kernel_check") / "example" / name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
    click.echo(f"wrote {EXAMPLE[0]} and {EXAMPLE[1]}; try: gpucnn check {EXAMPLE[0]} --launch {EXAMPLE[1]}")


def _print_compiled(source: KernelSource, compiled: list[Compilation], missing: str | None) -> None:
    if missing is not None:
        click.echo(f"registers and spills not shown: {missing}")
        return
    broken: dict[tuple[str, ...], list[str]] = {}
    for compilation in compiled:
        if compilation.errors:
            broken.setdefault(compilation.errors, []).append(compilation.arch)
    for errors, architectures in broken.items():
        click.echo(f"{source.file} does not compile for {', '.join(architectures)}:")
        click.echo("\n".join(f"  {line}" for line in errors))
    if broken and all(compilation.errors for compilation in compiled):
        return
    width = max(len("entry"), *(len(name) for name in source.entries))
    click.echo(f"{'arch':<8}{'entry':<{width}}  registers  spill bytes  shared bytes  stack bytes")
    for compilation in compiled:
        for entry in compilation.entries:
            spills = entry.spill_stores + entry.spill_loads
            click.echo(
                f"{compilation.arch:<8}{entry.entry:<{width}}  {entry.registers:>9}  {spills:>11}  "
                f"{entry.shared_bytes:>12}  {entry.stack_bytes:>11}"
            )
        for line in compilation.warnings:
            click.echo(f"  {line}")


def _print_findings(source: KernelSource, folder: Path, launch: Launch, findings: list[Finding]) -> None:
    grid, block = ("x".join(map(str, sizes)) for sizes in (launch.grid, launch.block))
    shape = f"grid {grid}, block {block}"
    if not findings:
        click.echo(f"clean: {shape}; no race, no access out of bounds, every output written")
        return
    click.echo(f"{len(findings)} finding{'s' if len(findings) > 1 else ''}, {shape}, {findings[0].order} order")
    for finding in findings:
        click.echo("")
        click.echo("\n".join(_lines(finding.report, folder)))


def _lines(report: Report, folder: Path) -> list[str]:
    """Return a report over several lines, with the text of the places that it names."""
    where = f" at {report.place}" if report.place else ""
    lines = [f"{report.kind}{where}: {report.message}"]
    if report.variable:
        offset = "" if report.offset is None else f", byte {report.offset} of {report.variable_bytes}"
        lines.append(f"  in {report.variable}{offset}")
    for who, actor, place in (("", report.actor, report.place), ("other: ", report.other_actor, report.other_place)):
        if actor is not None:
            lines.append(f"  {who}{actor}{f' at {place}' if place and who else ''}")
        if place is not None and (who or actor is not None):
            text = _line_of(folder / place.file, place.line)
            lines += [f"    {place.line} | {text}"] if text else []
    return lines


def _line_of(path: Path, number: int) -> str:
    """Return a line of a file of the user's; "" for one that lies elsewhere."""
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""


def _described(
    source: KernelSource, compiled: list[Compilation], missing: str | None, findings: list[Finding] | None
) -> dict[str, Any]:
    return {
        "file": source.file,
        "nvrtc": missing or "works",
        "compiled": [asdict(compilation) for compilation in compiled],
        "findings": None if findings is None else [{**asdict(f.report), "order": f.order} for f in findings],
    }
