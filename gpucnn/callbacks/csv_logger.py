"""CSVLogger: a row of numbers for every epoch, in a file that no other run overwrites."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from gpucnn.callbacks.callback import Callback, Logs
from gpucnn.errors import DataError
from gpucnn.training.tensor_file import write_atomically


class CSVLogger(Callback):
    """Write the logs of every epoch to a file as they come: a header, then a row an epoch, numbered from 0.

    The file is whole at any time. Rows of epochs that a resumed fit runs anew are replaced.

    Args:
        filename: to write.
        separator: between the columns, one character.
        append: whether an existing file goes on; else one that is not empty is refused.

    Raises:
        DataError: in fit: the file is there and append is False; or its header names other columns.
        CheckpointError: in fit: it cannot be written.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        if len(separator) != 1:
            raise ValueError(f"CSVLogger: separator must be one character, got {separator!r}")
        self._path = Path(filename)
        self._separator = separator
        self._append = append

    def on_train_begin(self, logs: Logs) -> None:
        self._rows: list[list[str]] = []
        if self._read() and not self._append:
            raise DataError(f"{self._path} holds another run; append=True goes on with it, or give another file")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        header = ["epoch", *logs]
        if not self._rows:
            self._rows = self._kept(header, epoch)
        self._rows.append([str(epoch), *(repr(np.asarray(value).tolist()) for value in logs.values())])
        text = io.StringIO()
        csv.writer(text, delimiter=self._separator, lineterminator="\n").writerows(self._rows)
        write_atomically(self._path, text.getvalue().encode())

    def _read(self) -> list[list[str]]:
        """Return the rows of the file, none where there is no file."""
        try:
            with self._path.open(encoding="utf-8", newline="") as file:
                return list(csv.reader(file, delimiter=self._separator))
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read {self._path}: {error}") from error

    def _kept(self, header: list[str], epoch: int) -> list[list[str]]:
        """Return the header and the rows of earlier epochs that the file holds."""
        rows = self._read()
        if not rows:
            return [header]
        if rows[0] != header:
            raise DataError(
                f"{self._path} has the columns {', '.join(rows[0])}, this fit writes {', '.join(header)}; "
                "give another file"
            )
        return [header, *(row for row in rows[1:] if row and row[0].isdecimal() and int(row[0]) < epoch)]
