"""PyTorch's training: blocks and steps, eager, as CUDA graphs and compiled, each in both memory layouts."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpucnn.benchmarks import networks
from gpucnn.benchmarks.measure import Contestant
from gpucnn.benchmarks.reference_torch import LAYOUTS, Reference, Work


@dataclass(frozen=True)
class Way:
    """How PyTorch runs a step.

    Args:
        name: for tables.
        mode: torch.compile's, of the model; None where it is not compiled.
        graph: whether the whole step is one CUDA graph.
    """

    name: str
    mode: str | None = None
    graph: bool = False


EAGER = Way("eager")
WAYS = {
    "eager": EAGER,
    "graph": Way("CUDA graph", graph=True),
    "compile": Way("torch.compile", "max-autotune"),
    "compile-graph": Way("torch.compile in a CUDA graph", "max-autotune-no-cudagraphs", graph=True),
}
"""By the name that a command line gives it."""
CALLS_UNTIL_COMPILED = 3
"""torch.compile compiles in the first, may record a CUDA graph in the second and replays it in the third."""
_WARM_UP = 11
"""PyTorch's own count before captures: cuDNN tries its algorithms in the first runs."""


def module(reference: Reference, network: networks.Network, layout: str) -> Any:
    """Return a network with logits, or feature maps, at its end."""
    nn, parts = reference.torch.nn, []
    h, w, c = network.image
    features = 0
    for part in network.parts:
        if isinstance(part, networks.Pad):
            parts.append(nn.ZeroPad2d(part.pixels))
            h, w = h + 2 * part.pixels, w + 2 * part.pixels
        elif isinstance(part, networks.Conv):
            parts.append(nn.Conv2d(c, part.filters, part.size, padding=part.padding))
            h, w = (side + 2 * part.padding - part.size + 1 for side in (h, w))
            c = part.filters
        elif isinstance(part, networks.Pool):
            parts.append(nn.MaxPool2d(part.size))
            h, w = h // part.size, w // part.size
        elif isinstance(part, networks.Relu):
            parts.append(nn.ReLU(inplace=True))
        elif isinstance(part, networks.Flatten):
            parts.append(nn.Flatten())
            features = h * w * c
        else:
            parts.append(nn.Linear(features, part.units))
            features = part.units
    return nn.Sequential(*parts).to(reference.device, memory_format=reference.format(layout))


def step(
    reference: Reference,
    network: networks.Network,
    x: np.ndarray,
    y: np.ndarray,
    layout: str,
    way: Way = EAGER,
    precision: str = "float32",
) -> Work:
    """Return a step of Adam on one batch: forward, cross-entropy, backward, update; it returns the loss if eager.

    Args:
        precision: "float32" is strict; "bfloat16" autocasts around float32 parameters.
    """
    torch = reference.torch
    torch.manual_seed(0)
    model = module(reference, network, layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True, capturable=way.graph)
    images, labels = reference.images(x, layout), reference.labels(y)
    called = compiled(reference, model, way)

    def once() -> Any:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(reference.device, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(called(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return graphed(reference, once) if way.graph else once


def peak_memory(
    reference: Reference, network: networks.Network, x: np.ndarray, y: np.ndarray, precision: str = "float32"
) -> int | None:
    """Return the most bytes that PyTorch's tensors take in an eager `step`, its weights, moments and batch among them.

    Of both memory layouts the smaller figure counts. cuDNN chooses its algorithms, which need more, in the steps before
    that are not counted. None on the CPU, where PyTorch does not count.
    """
    if reference.device == "cpu":
        return None
    cuda, found = reference.torch.cuda, []
    for layout in LAYOUTS:
        before = int(cuda.memory_allocated())
        work = step(reference, network, x, y, layout, EAGER, precision)
        for _ in range(_WARM_UP):
            work()
        reference.synchronize()
        cuda.reset_peak_memory_stats()
        work()
        reference.synchronize()
        found.append(int(cuda.max_memory_allocated()) - before)
        del work
        gc.collect()
    return min(found)


def block(
    reference: Reference, network: networks.Network, x: np.ndarray, dy: np.ndarray, layout: str, way: Way = EAGER
) -> Work:
    """Return layers forward and backward to the gradients of their parameters."""
    model = module(reference, network, layout)
    images, gradient = reference.images(x, layout), reference.images(dy, layout)
    called = compiled(reference, model, way)

    def once() -> None:
        model.zero_grad(set_to_none=True)
        called(images).backward(gradient)

    return graphed(reference, once) if way.graph else once


def compiled(reference: Reference, model: Any, way: Way) -> Any:
    """Return what stands for a model in a way: torch.compile compiles it in its first calls, for their shapes alone."""
    return model if way.mode is None else reference.torch.compile(model, mode=way.mode, dynamic=False)


def graphed(reference: Reference, work: Work) -> Work:
    """Return work as the replay of a CUDA graph of one run."""
    torch = reference.torch
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    replay: Work = graph.replay
    return replay


def contestants(
    reference: Reference,
    make: Callable[[str, Way], Work],
    scrub: Callable[[], object],
    ways: Iterable[Way],
) -> tuple[list[Contestant], list[str]]:
    """Return every way in every layout that works here, warmed up, and one line for each that does not.

    What torch.compile made for others before is forgotten: it remembers a few models only.

    Args:
        make: (layout, way) to the work.
        scrub: see Reference.clock.
        ways: those to try.
    """
    found, failed = [], []
    reference.forget_compiled()
    for way in ways:
        for layout in LAYOUTS:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # torch.compile's remarks on its own settings
                    work = make(layout, way)
                    for _ in range(CALLS_UNTIL_COMPILED):
                        work()
                    reference.synchronize()
            except Exception as error:  # torch.compile and captures may fail in any way; the others still compete
                failed.append(failure(way, layout, error))
            else:
                found.append(Contestant(f"{way.name}, {layout}", work, reference.clock(scrub)))
    return found, failed


def failure(way: Way, layout: str, error: Exception) -> str:
    """Return one line that says why a way does not work."""
    return f"PyTorch, {way.name}, {layout}: " + " ".join(f"{type(error).__name__}: {error}".split())[:200]
