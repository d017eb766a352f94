"""The NumPy backend beside PyTorch on the CPU, and beside a textbook's NumPy: convolutions, and training steps.

Both compute strict float32 with the same number of threads: one is what counts, two are for information. Times and
ratios of one thread are in processor time, which other work of the machine does not lengthen; of two, by the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gpucnn import optimizers
from gpucnn.autograd import no_grad, tensor
from gpucnn.backends import use_backend
from gpucnn.backends.numpy_backend.blas_threads import blas_threads
from gpucnn.benchmarks import textbook, torch_training
from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.layers import CPU_CONVOLUTIONS, Convolution
from gpucnn.benchmarks.measure import (
    Comparison,
    Contestant,
    ProcessorClock,
    Spread,
    alone,
    geometric_mean,
    interleave,
    quickest,
)
from gpucnn.benchmarks.networks import CNN_32_64, LENET5, Network
from gpucnn.benchmarks.reference_torch import LAYOUTS, Reference
from gpucnn.functional import conv2d
from gpucnn.generator import seed

TITLE = "NumPy backend and PyTorch on the CPU, float32"
COLUMNS = (
    Column("case", "what"),
    Column("threads", "threads"),
    Column("ours", "gpucnn", "seconds"),
    Column("theirs", "PyTorch", "seconds"),
    Column("layout", "PyTorch's layout"),
    Column("ratio", "PyTorch / gpucnn", "ratio"),
    Column("textbook_ratio", "textbook / gpucnn", "ratio"),
)
BATCH = 128
_TEXTBOOK_REPEATS = 6
_TRIES = 3
"""Of each layout: its turns are long and near alike."""
_clock = ProcessorClock()

Work = Callable[[], Any]


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield every layer forward and both ways, and the steps, first with one thread."""
    for threads in (1, 2):
        suffix = "" if threads == 1 else ", 2 threads"
        for layer in CPU_CONVOLUTIONS:
            for both in (False, True):
                name = f"{'forward and backward' if both else 'forward'}, {layer.name}{suffix}"
                yield Case(name, partial(_layer, conditions, layer, both, threads))
        for network in (LENET5, CNN_32_64):
            name = f"training step, {network.name}, batch {BATCH}{suffix}"
            yield Case(name, partial(_step, conditions, network, threads))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the figures that the goals are about, all with one thread; None where a row is missing."""
    single = {name: row for name, row in rows.items() if row.get("threads") == 1}

    def ratio(name: str, key: str = "ratio") -> float | None:
        found = single.get(name, {}).get(key)
        return None if found is None else float(found["median"])

    def mean(prefix: str, layers: tuple[Convolution, ...], key: str = "ratio") -> float | None:
        found = [ratio(f"{prefix}, {layer.name}", key) for layer in layers]
        return None if None in found else geometric_mean(found)

    wide = tuple(layer for layer in CPU_CONVOLUTIONS if layer.size == 3 and layer.c >= 128)
    return {
        "forward": mean("forward", CPU_CONVOLUTIONS),
        "forward and backward": mean("forward and backward", CPU_CONVOLUTIONS),
        "forward, 3x3, C >= 128": mean("forward", wide),
        "forward and backward, 3x3, C >= 128": mean("forward and backward", wide),
        "LeNet-5 step": ratio(f"training step, {LENET5.name}, batch {BATCH}"),
        "32-64-filter CNN step": ratio(f"training step, {CNN_32_64.name}, batch {BATCH}"),
        "textbook, forward": mean("forward", CPU_CONVOLUTIONS, "textbook_ratio"),
        "textbook, forward and backward": mean("forward and backward", CPU_CONVOLUTIONS, "textbook_ratio"),
    }


@contextmanager
def _threads(count: int, reference: Reference | None) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(blas_threads.given(count))
        if reference is not None:
            stack.enter_context(reference.threads(count))
        stack.enter_context(use_backend("numpy"))
        yield


def _times(comparison: Comparison, threads: int) -> tuple[float, float, Spread]:
    """Return ours, theirs and the ratio, in what counts for this number of threads."""
    if threads == 1:
        return comparison.ours.device, comparison.theirs.device, comparison.device_ratio
    return comparison.ours.wall, comparison.theirs.wall, comparison.wall_ratio


def _compare(
    conditions: Conditions, ours: Contestant, rival: Callable[[Reference, str], Work], threads: int
) -> dict[str, Any]:
    """Time gpucnn's work beside PyTorch's in its quicker layout, or alone where there is no PyTorch."""
    reference, turn = conditions.cpu_reference, conditions.turn_seconds
    if reference is None:
        seconds = alone(ours, conditions.repeats, turn_seconds=turn)
        return {"threads": threads, "ours": seconds.device if threads == 1 else seconds.wall}
    rivals = [Contestant(layout, rival(reference, layout), _clock) for layout in LAYOUTS]
    best = quickest(rivals, "device" if threads == 1 else "wall", turn_seconds=turn, tries=_TRIES)
    own, theirs, ratio = _times(interleave(ours, best, conditions.repeats, turn_seconds=turn), threads)
    return {"threads": threads, "ours": own, "theirs": theirs, "layout": best.name, "ratio": ratio.facts()}


def _layer(conditions: Conditions, layer: Convolution, both: bool, threads: int) -> dict[str, Any]:
    layer = replace(layer, n=1, image=layer.size + 1) if conditions.tiny else layer
    spec = layer.spec()
    rng = np.random.default_rng(0)
    x, weight, dy = (
        rng.standard_normal(shape, np.float32) for shape in (spec.x_shape, spec.weight_shape, spec.y_shape)
    )
    with _threads(threads, conditions.cpu_reference):
        ours = Contestant("gpucnn", _own_layer(layer, x, weight, dy, both), _clock)

        def rival(reference: Reference, layout: str) -> Work:
            if both:
                return reference.forward_and_backward(layer, x, weight, dy, layout)
            return reference.forward(layer, x, weight, layout)

        row = _compare(conditions, ours, rival, threads)
        textbook = Contestant("textbook", _textbook_layer(layer, x, weight, dy, both), _clock)
        repeats = min(conditions.repeats, _TEXTBOOK_REPEATS)
        beside = interleave(ours, textbook, repeats, turn_seconds=conditions.turn_seconds)
    return {**row, "textbook_ratio": _times(beside, threads)[2].facts()}


def _own_layer(layer: Convolution, x: np.ndarray, weight: np.ndarray, dy: np.ndarray, both: bool) -> Work:
    images = tensor(x, requires_grad=both and layer.kind != "first")
    filters, gradient = tensor(weight, requires_grad=both), tensor(dy)

    def forward() -> Any:
        with no_grad():
            return conv2d(images, filters, padding=layer.padding)

    def forward_and_backward() -> Any:
        images.zero_grad()
        filters.zero_grad()
        conv2d(images, filters, padding=layer.padding).backward(gradient)
        return images.grad, filters.grad

    return forward_and_backward if both else forward


def _textbook_layer(layer: Convolution, x: np.ndarray, weight: np.ndarray, dy: np.ndarray, both: bool) -> Work:
    images, filters, gradient = (np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (x, weight, dy))

    def forward() -> Any:
        return textbook.forward(images, filters)[0]

    def forward_and_backward() -> Any:
        _, columns = textbook.forward(images, filters)
        dw = textbook.backward_weight(gradient, columns)
        if layer.kind == "first":
            return None, dw
        return textbook.backward_input(gradient, filters, *images.shape[2:]), dw

    return forward_and_backward if both else forward


def _step(conditions: Conditions, network: Network, threads: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    count = 2 if conditions.tiny else BATCH
    x = rng.random((count, *network.image), np.float32)
    y = rng.integers(network.classes, size=count).astype(np.int32)
    with _threads(threads, conditions.cpu_reference):
        seed(0)
        model = network.build()
        model.compile(optimizer=optimizers.Adam(1e-3))
        images, labels = tensor(x), tensor(y)
        return _compare(
            conditions,
            Contestant("gpucnn", lambda: model.train_step(images, labels), _clock),
            lambda reference, layout: torch_training.step(reference, network, x, y, layout),
            threads,
        )
