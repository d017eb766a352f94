"""How long a training step of LeNet-5 takes, beside PyTorch in the same process.

Contestants alternate A-B-B-A, so that a drift of clocks hits both alike; what is compared is the median of the ratios
of neighbours. Rows for single layers belong here too, as tables of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from gpu_sections.environment import installed
from gpu_sections.outcome import NOT_MEASURED, Outcome
from gpu_sections.settings import Settings
from gpu_sections.torch_lenet import TorchStep

if TYPE_CHECKING:
    from gpucnn.backends.kernel_backend import KernelBackend

_BATCHES = (64, 128, 256)
_ROUNDS = 15
"""Of A-B-B-A, hence 30 pairs."""
_BLOCK_SECONDS = 0.02
"""One turn of a contestant lasts about this long."""

Seconds = tuple[float, float]
"""Of a step: on the device, by the clock."""
Contestant = Callable[[int], Seconds]
"""Takes so many steps and returns how long one took."""


def run(settings: Settings, outcome: Outcome) -> None:
    """Time the step eager and captured, at each batch size."""
    backend = settings.activate()
    why = _torch_missing(settings)
    if why is not None:
        outcome.left_out("comparisons with PyTorch", 2 * len(_BATCHES), why)
    table = outcome.table(
        "A training step of LeNet-5, microseconds, strict float32"
        + (" (EMULATED on the CPU: no GPU figures)" if settings.tiny else ""),
        ["batch", "how", "gpucnn, device", "gpucnn, clock", "PyTorch, device", "PyTorch, clock", "PyTorch's layout",
         "PyTorch / gpucnn, device", "PyTorch / gpucnn, clock", "spread of the ratio (10 to 90 %)"],
    )  # fmt: skip
    batches, rounds = ((2,), 2) if settings.tiny else (_BATCHES, _ROUNDS)
    ratios = {}
    for batch in batches:
        x, y = settings.digits(batch)
        for how in ("eager", "CUDA graph"):
            own = _own_step(backend, x, y, captured=how != "eager")
            if why is not None:
                device, clock = np.median([own(_block(own, settings)) for _ in range(rounds)], axis=0)
                table.add(batch, how, device * 1e6, clock * 1e6, *[NOT_MEASURED] * 6)
                continue
            torch_step = _faster_layout(x, y, graphed=how != "eager")
            pairs = interleaved(own, torch_step.seconds, rounds)
            ours, theirs = np.median(pairs, axis=0) * 1e6
            each = pairs[:, 1] / pairs[:, 0]
            low, high = np.quantile(each[:, 1], (0.1, 0.9))
            device, clock = np.median(each, axis=0)
            table.add(batch, how, *ours, *theirs, torch_step.name, device, clock, f"{low:.2f} to {high:.2f}")
            ratios[f"{how}, batch {batch}"] = {"device": float(device), "clock": float(clock)}
            outcome.fact("ratios", ratios)
    if ratios:
        outcome.find("PyTorch's time / gpucnn's: " + ", ".join(f"{n} {r['clock']:.2f}" for n, r in ratios.items()))
    else:
        outcome.find("no comparison with PyTorch")


def _torch_missing(settings: Settings) -> str | None:
    if settings.backend != "cuda":
        return "PyTorch would run on the GPU that is not here"
    if not installed("torch"):
        return "torch is not installed"
    import torch

    return None if torch.cuda.is_available() else f"torch {torch.__version__} sees no GPU"


def _faster_layout(x: np.ndarray, y: np.ndarray, *, graphed: bool) -> TorchStep:
    """Return PyTorch's step in the memory layout in which it is faster."""
    both = [TorchStep(x, y, "cuda", graphed=graphed, channels_last=last) for last in (False, True)]
    return min(both, key=lambda step: [step.seconds(_block(step.seconds)) for _ in range(2)][-1][1])


def _own_step(backend: KernelBackend, x: np.ndarray, y: np.ndarray, *, captured: bool) -> Contestant:
    """Return gpucnn's step on one fixed batch; captured, it is a graph of one step, as PyTorch's is."""
    import gpucnn
    from gpucnn.training.captured_step import Recording

    gpucnn.seed(0)
    model = gpucnn.zoo.lenet5()
    model.compile(optimizer=gpucnn.optimizers.Adam(1e-3))
    images, labels = gpucnn.tensor(x), gpucnn.tensor(y)

    def step() -> object:
        return model.train_step(images, labels)

    chosen = Recording(step, backend) if captured else step
    for _ in range(4):  # compiles, records, captures, replays
        chosen()

    def seconds(steps: int) -> Seconds:
        backend.synchronize()
        begin = time.perf_counter()
        with backend.device.timer() as elapsed:
            for _ in range(steps):
                chosen()
        backend.synchronize()
        clock = time.perf_counter() - begin
        return elapsed() / steps, clock / steps

    return seconds


def _block(contestant: Contestant, settings: Settings | None = None) -> int:
    """Return how many steps fill a turn."""
    if settings is not None and settings.tiny:
        return 1
    return max(1, int(_BLOCK_SECONDS / max(contestant(5)[1], 1e-7)))


def interleaved(a: Contestant, b: Contestant, rounds: int) -> np.ndarray:
    """Time two contestants A-B-B-A; return (2 * rounds, 2, 2): pairs, (a, b), (device, clock) in seconds a step."""
    steps_a, steps_b = _block(a), _block(b)
    a(steps_a), b(steps_b)  # warm up at the length that counts
    pairs: list[tuple[Seconds, Seconds]] = []
    for _ in range(rounds):
        first, second, third, fourth = a(steps_a), b(steps_b), b(steps_b), a(steps_a)
        pairs += [(first, second), (fourth, third)]
    return np.array(pairs)
