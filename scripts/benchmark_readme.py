#!/usr/bin/env python3
"""Write the README's table of measured speed anew, from the JSON files of `gpucnn bench --json`.

python scripts/benchmark_readme.py scripts/measured/*.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # not needed where gpucnn is installed

from gpucnn.benchmarks.goals import table

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- benchmark -->\n", "<!-- end of benchmark -->\n"


def replaced(text: str, files: list[Path]) -> str:
    """Return the README's text with the table of these files between its marks.

    Raises:
        click.ClickException: the marks are not there, once each.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise click.ClickException(f"the README needs the lines {BEGIN.strip()} and {END.strip()}, once each")
    before, rest = text.split(BEGIN)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return f"{before}{BEGIN}{table(runs)}\n{END}{rest.split(END)[1]}"


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--readme", type=click.Path(exists=True, path_type=Path), default=ROOT / "README.md")
def main(files: tuple[Path, ...], readme: Path) -> None:
    """Replace the table."""
    text = replaced(readme.read_text(encoding="utf-8"), list(files))
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
