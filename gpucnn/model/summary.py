"""The table that `Model.summary` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpucnn.model.costs import LayerCost
from gpucnn.model.data_format import shape_outside
from gpucnn.parameters import Parameter

_HEAD = ("Layer (type)", "Output Shape", "Param #", "MACs", "Bytes", "Field")


def table(title: str, costs: Sequence[LayerCost], parameters: Sequence[Parameter], data_format: str) -> Iterator[str]:
    """Yield the lines of a summary, its shapes in the model's data format."""
    cells = [_HEAD, *(_row(cost, data_format) for cost in costs)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEAD))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [
        "  ".join(f"{cell:<{width}}" if i < 2 else f"{cell:>{width}}" for i, (cell, width) in enumerate(row))
        for row in (list(zip(row, widths, strict=True)) for row in cells)
    ]
    total = sum(p.size for p in parameters)
    trainable = sum(p.size for p in parameters if p.trainable)
    yield f"Model: {title}"
    yield rule
    yield lines[0]
    yield rule
    yield from lines[1:]
    yield rule
    yield f"MACs of a sample: {sum(cost.macs for cost in costs):,}"
    yield f"Bytes of a sample's activations: {sum(cost.activation_bytes for cost in costs):,}"
    yield f"Total params: {total:,}"
    yield f"Trainable params: {trainable:,}"
    yield f"Non-trainable params: {total - trainable:,}"


def _row(cost: LayerCost, data_format: str) -> tuple[str, ...]:
    shape = "?" if cost.output_shape is None else str((None, *shape_outside(cost.output_shape, data_format)))
    field = "" if cost.receptive_field is None else "x".join(map(str, cost.receptive_field))
    numbers = (cost.parameters, cost.macs, cost.activation_bytes)
    return (f"{cost.name} ({cost.kind})", shape, *(f"{number:,}" for number in numbers), field)
