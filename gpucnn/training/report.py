"""Progress of training: a bar while an epoch runs, then one aligned row."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import numpy as np

MEASURED = (("loss", 8, ".4f"), ("acc", 8, ".4f"), ("val_loss", 8, ".4f"), ("val_acc", 8, ".4f"))
SPEED = (("images_per_second", 9, ",.0f"), ("seconds", 8, ".1f"))
_TITLES = {"images_per_second": "images/s", "val_loss": "val loss", "val_acc": "val acc"}


class Report:
    """Writes progress.

    Args:
        verbose: 0 nothing, 1 bar (on a terminal) and rows, 2 rows only.

    Attributes:
        rows: samples in an epoch.
    """

    def __init__(self, verbose: int) -> None:
        if verbose not in (0, 1, 2):
            raise ValueError(f"verbose must be 0, 1 or 2, got {verbose!r}")
        self.rows = 0
        self._verbose = verbose
        self._columns: tuple[tuple[str, int, str], ...] = ()

    @contextmanager
    def epoch(self, epoch: int, epochs: int) -> Iterator[Callable[[int], None]]:
        """Show the bar of one epoch; call what is yielded with the rows done."""
        if self._verbose != 1 or not sys.stderr.isatty():
            yield lambda rows: None
            return
        with click.progressbar(length=self.rows, label=f"epoch {epoch + 1}/{epochs}", file=sys.stderr) as bar:
            yield bar.update
        click.echo("\x1b[1A\x1b[2K", nl=False, err=True)

    def row(self, epoch: int, epochs: int, values: dict[str, Any]) -> None:
        """Write one epoch's row, the first under the columns' titles, which say what all rows show: no matrices."""
        if not self._verbose:
            return
        if not self._columns:
            known = {name for name, _, _ in (*MEASURED, *SPEED)}
            others = [name for name, value in values.items() if name not in known and not np.ndim(value)]
            wanted = (*MEASURED, *((name, max(8, len(name)), ".4g") for name in others), *SPEED)
            self._columns = tuple(column for column in wanted if column[0] in values)
            titles = (f"{_TITLES.get(name, name):>{width}}" for name, width, _ in self._columns)
            click.echo("  epoch  " + "  ".join(titles))
        count = f"{epoch + 1}/{epochs}"
        click.echo(f"{count:>7}  " + "  ".join(f"{values[name]:>{width}{form}}" for name, width, form in self._columns))
