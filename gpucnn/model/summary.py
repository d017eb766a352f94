"""The table that `Model.summary` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gpucnn.layers.layer import Shape
from gpucnn.model.data_format import shape_outside
from gpucnn.parameters import Parameter

Row = tuple[str, str, Shape | None, int]
"""(name, kind, output shape or None, number of parameters) of a layer."""


def table(title: str, rows: Iterable[Row], parameters: Sequence[Parameter], data_format: str) -> Iterator[str]:
    """Yield the lines of a summary, its shapes in the model's data format."""
    cells = [("Layer (type)", "Output Shape", "Param #")]
    for name, kind, shape, count in rows:
        shown = "?" if shape is None else str((None, *shape_outside(shape, data_format)))
        cells.append((f"{name} ({kind})", shown, f"{count:,}"))
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    rule = "-" * (sum(widths) + 4)
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in cells]
    total = sum(p.size for p in parameters)
    trainable = sum(p.size for p in parameters if p.trainable)
    yield f"Model: {title}"
    yield rule
    yield lines[0]
    yield rule
    yield from lines[1:]
    yield rule
    yield f"Total params: {total:,}"
    yield f"Trainable params: {trainable:,}"
    yield f"Non-trainable params: {total - trainable:,}"
