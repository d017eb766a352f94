"""`gpucnn data`: which published data sets are here, whether their files are sound, and how to get them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gpucnn.datasets import cifar10, fashion_mnist, mnist
from gpucnn.datasets.collection import Collection
from gpucnn.errors import DataError

F = TypeVar("F", bound=Callable[..., Any])

COLLECTIONS: dict[str, Collection] = {
    c.name: c for c in (mnist.COLLECTION, fashion_mnist.COLLECTION, cifar10.COLLECTION)
}
"""Published data sets by name."""


def data_dir_option(command: F) -> F:
    """Add --data-dir. The library itself reads GPUCNN_DATA_DIR, after which it searches the cache too."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="The only folder to look in; else GPUCNN_DATA_DIR, then the user's cache.",
    )(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")


@click.group(name="data")
def command() -> None:
    """List, verify and download data sets."""


@command.command(name="list")
@data_dir_option
@_json_option
def list_command(data_dir: Path | None, as_json: bool) -> None:
    """Say where each data set is."""
    rows = [_row(collection, data_dir) for collection in COLLECTIONS.values()]
    if as_json:
        click.echo(json.dumps(rows))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        if row["folder"] is None:
            state = f"not found; `gpucnn data download {row['name']}` fetches {row['download_bytes']:,} bytes"
        else:
            state = f"{row['bytes']:,} bytes in {row['folder']}"
        click.echo(f"{row['name']:<{width}}  {state}")


def _row(collection: Collection, data_dir: Path | None) -> dict[str, Any]:
    try:
        paths = collection.find(data_dir)
    except DataError:
        paths = []
    return {
        "name": collection.name,
        "folder": str(paths[0].parent) if paths else None,
        "bytes": sum(path.stat().st_size for path in paths) if paths else None,
        "download_bytes": sum(file.size for file in collection.remote_files),
    }


@command.command(name="verify")
@click.argument("names", nargs=-1, type=click.Choice(tuple(COLLECTIONS)), metavar="[NAME]...")
@data_dir_option
@_json_option
@click.pass_context
def verify_command(ctx: click.Context, names: tuple[str, ...], data_dir: Path | None, as_json: bool) -> None:
    """Check each file of data sets.

    Looks at the structure and the SHA-256, without NAME of all data sets that are found.
    The exit code is 1 when a file is missing, damaged, or not the published one.
    """
    chosen = names or tuple(name for name, collection in COLLECTIONS.items() if _row(collection, data_dir)["folder"])
    if not chosen:
        where = data_dir or mnist.COLLECTION.home().parent
        raise DataError(f"no data set was found in {where}; `gpucnn data download NAME` gets one")
    findings = [(name, finding) for name in chosen for finding in COLLECTIONS[name].examine(data_dir)]
    if as_json:
        rows = [
            {
                "name": name,
                "file": finding.file,
                "path": None if finding.path is None else str(finding.path),
                "state": finding.state,
                "note": finding.note,
            }
            for name, finding in findings
        ]
        click.echo(json.dumps(rows))
    else:
        for name, finding in findings:
            click.echo(f"{finding.state:<9}  {finding.path or f'{name}: {finding.file}'}{_after(finding.note)}")
    if not all(finding.good for _, finding in findings):
        ctx.exit(1)


def _after(note: str) -> str:
    return f"  ({note})" if note else ""


@command.command(name="download")
@click.argument("names", nargs=-1, required=True, type=click.Choice(tuple(COLLECTIONS)), metavar="NAME...")
@data_dir_option
@_json_option
def download_command(names: tuple[str, ...], data_dir: Path | None, as_json: bool) -> None:
    """Fetch what is missing of data sets.

    Files that are there are checked, and never replaced.
    """
    rows = []
    for name in names:
        for path, fetched in COLLECTIONS[name].download(data_dir):
            rows.append({"name": name, "path": str(path), "bytes": path.stat().st_size, "fetched": fetched})
            if not as_json:
                click.echo(f"{'fetched' if fetched else 'present'}  {path}  {rows[-1]['bytes']:,} bytes")
    if as_json:
        click.echo(json.dumps(rows))
