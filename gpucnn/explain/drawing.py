"""Matrices and columns in a terminal: aligned, marked, and at most so wide."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from itertools import zip_longest

import numpy as np

from gpucnn.explain.trace import Position

WIDTH = 80
MOST_ROWS = 24
_GAP = 4


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: Korean letters take two.

    >>> columns_of("sum"), columns_of("합")
    (3, 2)
    """
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def left(text: str, width: int) -> str:
    """Return a text filled with spaces behind it."""
    return text + " " * (width - columns_of(text))


def right(text: str, width: int) -> str:
    """Return a text filled with spaces before it."""
    return " " * (width - columns_of(text)) + text


def number(value: float) -> str:
    """Return a number in at most six digits, whole ones without a point."""
    return f"{value + 0.0:.6g}"


def matrix(
    values: np.ndarray,
    marked: Collection[Position] = (),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    cropped: Callable[[int, int, int, int], str] | None = None,
) -> list[str]:
    """Return the lines of a matrix with its row and column numbers; padding is shown as dots.

    Args:
        values: (rows, columns).
        marked: positions to put in brackets; they may lie in the padding.
        pads: rows and columns around it, (top, bottom, left, right).
        cropped: gives the line that says which (top, bottom, left, right) part of a large matrix is shown.
    """
    height, width = values.shape
    reach = [*marked, (-pads[0], -pads[2]), (height + pads[1] - 1, width + pads[3] - 1)]
    rows = _range([row for row, _ in reach], [row for row, _ in marked], MOST_ROWS)
    label = max(len(str(row)) for row in (rows.start, rows.stop - 1)) + 2
    columns = range(min(c for _, c in reach), max(c for _, c in reach) + 1)
    texts = {
        (row, column): number(values[row, column]) if 0 <= row < height and 0 <= column < width else "."
        for row in rows
        for column in columns
    }
    cell = max(len(text) for text in (*texts.values(), str(columns.start), str(columns.stop - 1)))
    shown = _range([c for _, c in reach], [c for _, c in marked], (WIDTH - label) // (cell + 2))
    lines = [" " * label + "".join(f" {column:>{cell}} " for column in shown).rstrip()]
    for row in rows:
        cells = (f"[{texts[row, c]:>{cell}}]" if (row, c) in marked else f" {texts[row, c]:>{cell}} " for c in shown)
        lines.append(f"{row:>{label - 2}}  {''.join(cells)}".rstrip())
    if cropped is not None and (len(shown) < len(columns) or rows.stop - rows.start < height + pads[0] + pads[1]):
        lines.append(cropped(rows.start, rows.stop - 1, shown.start, shown.stop - 1))
    return lines


def _range(all_of: Sequence[int], wanted: Sequence[int], most: int) -> range:
    """Return at most `most` consecutive numbers of a span, those wanted among them as far as they fit."""
    low, high = min(all_of), max(all_of)
    if high - low < most:
        return range(low, high + 1)
    middle = (min(wanted) + max(wanted)) // 2 if wanted else low
    start = min(max(middle - most // 2, low), high - most + 1)
    return range(start, start + most)


def side_by_side(*blocks: Sequence[str]) -> list[str]:
    """Return blocks of lines beside each other where they fit, else one below the other."""
    widths = [max(map(columns_of, block)) for block in blocks]
    if sum(widths) + _GAP * (len(blocks) - 1) > WIDTH:
        return [line for i, block in enumerate(blocks) for line in (*([""] if i else []), *block)]
    rows = zip_longest(*blocks, fillvalue="")
    return [
        (" " * _GAP).join(left(text, width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def table(rows: Sequence[Sequence[str]], rights: Collection[int]) -> list[str]:
    """Return rows of texts in columns, those numbered in `rights` aligned to the right."""
    widths = [max(columns_of(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  "
        + " ".join(
            (right if i in rights else left)(text, width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
