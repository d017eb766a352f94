"""Matrices as a user gives them: text, or a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpucnn.errors import DataError

MOST_ELEMENTS = 1 << 20
SUFFIXES = (".npy", ".csv", ".txt")


def read_matrix(given: str, what: str) -> np.ndarray:
    """Return a matrix as float64 (rows, columns).

    Args:
        given: rows between semicolons of numbers between commas or spaces, such as "1,0;0,1"; or a file: `.npy` with an
            array of one or two axes, `.csv` or `.txt` with one row of such numbers a line. One row is a sequence.
        what: names it in errors.

    Raises:
        ValueError: the text is no matrix of finite numbers, or it has more than 2**20.
        DataError: the file cannot be read or holds no matrix.

    >>> read_matrix("1,2;3,4", "input").tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    if not given.lower().endswith(SUFFIXES):
        return _checked(_parsed(given.split(";"), what), what)
    path = Path(given)
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.dtype.kind not in "fiub":
                raise ValueError(f"{what}: expected real numbers, got {array.dtype}")
            return _checked(np.atleast_2d(np.asarray(array, np.float64)), what)
        lines = path.read_text(encoding="utf-8").splitlines()
        return _checked(_parsed([line for line in lines if line.strip()], what), what)
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a matrix: {error}") from error


def _parsed(rows: list[str], what: str) -> np.ndarray:
    numbers = []
    for row in rows:
        try:
            numbers.append([float(word) for word in row.replace(",", " ").split()])
        except ValueError:
            raise ValueError(f"{what}: {row.strip()!r} is no row of numbers; write rows as 1,0,1;0,1,0") from None
    lengths = sorted({len(row) for row in numbers})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(f"{what}: rows must have one length of at least 1, got lengths {lengths}")
    return np.array(numbers, np.float64)


def _checked(matrix: np.ndarray, what: str) -> np.ndarray:
    if matrix.ndim != 2 or not 1 <= matrix.size <= MOST_ELEMENTS:
        raise ValueError(f"{what}: expected a matrix of 1 to {MOST_ELEMENTS:,} numbers, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{what}: its numbers must be finite")
    return matrix
