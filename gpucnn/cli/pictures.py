"""What a training looks like: curves, a confusion matrix, the filters of the first convolution."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn.training.tensor_file import write_atomically

MISSING = "they need matplotlib: pip install 'gpucnn[plot]'"
_TRAINING, _VALIDATION, _GREY = "#2b6cb0", "#dd6b20", "#e8e8e8"
_MOST_FILTERS, _COLUMNS = 64, 8
_RGB = 3


def available() -> bool:
    """Say whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_curves(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """Draw loss and accuracy over the epochs, of training and, where it was measured, of validation.

    Args:
        path: PNG to write.
        history: as `fit` returns it, of at least one epoch.
    """
    figure = _figure(9, 3.6)
    panels = figure.subplots(1, 2)
    for axes, name, title in zip(panels, ("loss", "acc"), ("loss", "accuracy"), strict=True):
        for key, label, colour in ((name, "training", _TRAINING), (f"val_{name}", "validation", _VALIDATION)):
            values = history.get(key, ())
            axes.plot(range(1, len(values) + 1), values, marker="o", markersize=4, color=colour, label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color=_GREY)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if f"val_{name}" in history:
            axes.legend(frameon=False)
    panels[0].set_ylim(0, 1.05 * max(*history["loss"], *history.get("val_loss", ()), 1e-12))
    _save(figure, path)


def draw_confusion(path: Path, counts: np.ndarray) -> None:
    """Draw how often each class was taken for which; colours are for the errors, which the diagonal would drown.

    Args:
        path: PNG to write.
        counts: (classes, classes) integers, rows are the labels, columns what the model says.
    """
    classes = len(counts)
    errors = np.where(np.eye(classes, dtype=bool), 0, counts)
    most = max(1, errors.max())
    figure = _figure(6, 6)
    axes = figure.subplots()
    axes.imshow(np.ma.masked_array(errors, np.eye(classes, dtype=bool)), cmap="Oranges", vmin=0, vmax=1.4 * most)
    axes.set_facecolor(_GREY)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            weight = "bold" if row == column else "normal"
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9, fontweight=weight)
    ticks = range(classes)
    axes.set(xticks=ticks, yticks=ticks, xlabel="what the model says", ylabel="label")
    axes.tick_params(length=0)
    axes.set_title(f"{errors.sum():,} errors in {counts.sum():,} test images")
    _save(figure, path)


def draw_filters(path: Path, filters: np.ndarray) -> None:
    """Draw filters, each on its own scale: three channels as colours, else a square for every channel.

    Args:
        path: PNG to write.
        filters: (K, R, S, C); of more than 64 squares the first are drawn.
    """
    if filters.shape[3] == _RGB:
        tiles = [_in_colours(one) for one in filters]
    else:
        tiles = [one[..., channel] for one in filters for channel in range(filters.shape[3])]
    tiles = tiles[:_MOST_FILTERS]
    columns = min(_COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    figure = _figure(1.1 * columns + 0.4, 1.1 * rows + 0.5)
    for axes, tile in zip(figure.subplots(rows, columns, squeeze=False).flat, tiles, strict=False):
        largest = max(float(np.abs(tile).max()), 1e-12)
        axes.imshow(tile, cmap="RdBu", vmin=-largest, vmax=largest)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(bool(axes.images))
    kinds = "" if filters.shape[3] == _RGB else ", blue above 0, red below"
    figure.suptitle(f"first convolution: {_described(filters)}{kinds}", fontsize=9)
    _save(figure, path)


def _described(filters: np.ndarray) -> str:
    count, height, width, channels = filters.shape
    return f"{count} filters of {height}x{width}" + (f"x{channels}" if channels > 1 else "")


def _in_colours(one: np.ndarray) -> np.ndarray:
    low, high = float(one.min()), float(one.max())
    return np.asarray((one - low) / max(high - low, 1e-12))


def _figure(width: float, height: float) -> Any:
    return import_module("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_atomically(path, content.getvalue())
