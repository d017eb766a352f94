"""A replayed step gives the bits of an eager one: with changing inputs, learning rates, dropout and freed memory."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu_sections.outcome import Outcome
from gpu_sections.settings import Settings

if TYPE_CHECKING:
    from gpucnn.backends import Backend
    from gpucnn.model import Sequential

_EAGER_CALLS = 2  # before the capture


def run(settings: Settings, outcome: Outcome) -> None:
    """Train pairs of models, one step by step, one by replay, and compare all their bits."""
    from gpucnn import zoo
    from gpucnn.optimizers import SGD, Adam

    backend = settings.activate()
    batch, replays = (2, 5) if settings.tiny else (64, 10)
    table = outcome.table("Replay against eager", ["what", "steps", "replayed", "calls of Python", "equal bits"])
    contestants = (
        ("LeNet-5, Adam", zoo.lenet5, lambda: Adam(1e-3)),
        ("a net with dropout, SGD with momentum", _with_dropout, lambda: SGD(0.05, momentum=0.9)),
    )
    for name, make, optimizer in contestants:
        eager, captured = (_twin(make, optimizer) for _ in range(2))
        differing = _compare_steps(settings, backend, eager, captured, batch, _EAGER_CALLS + replays)
        equal = outcome.check(f"{name}: replayed steps", not differing, ", ".join(differing))
        table.add(name, _EAGER_CALLS + replays, replays, replays, equal)
    repeat, launches = (2, 2) if settings.tiny else (16, 3)
    eager, captured = (_twin(_with_dropout, lambda: Adam(1e-3)) for _ in range(2))
    steps, differing = _compare_graphs(settings, backend, eager, captured, batch, repeat, launches)
    equal = outcome.check(f"graphs of {repeat} steps", not differing, ", ".join(differing))
    what = f"graphs of {repeat} steps, batches gathered on the device"
    table.add(what, steps, steps - _EAGER_CALLS, launches + 1, equal)
    if all(check["passed"] for check in outcome.record["checks"]):
        outcome.find(f"replay equals eager over {_EAGER_CALLS + replays} steps and in graphs of {repeat}")


def _with_dropout() -> Sequential:
    import gpucnn
    from gpucnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D

    layers = [
        Conv2D(4, 3, strides=2, activation="relu", input_shape=(28, 28, 1)),
        MaxPool2D(2),
        Dropout(0.25),
        Flatten(),
        Dense(10, activation="softmax"),
    ]
    return gpucnn.Sequential(layers)


def _twin(make: Any, optimizer: Any) -> Sequential:
    """Return a compiled model; every call gives the same weights and the same random numbers to come."""
    import gpucnn

    gpucnn.seed(7)
    model = make()
    model.compile(optimizer=optimizer(), metrics=["acc"])
    return model


def _compare_steps(
    settings: Settings, backend: Backend, eager: Sequential, captured: Sequential, batch: int, steps: int
) -> list[str]:
    """Return what differs after any of the steps; inputs and learning rate change from step to step."""
    import gpucnn

    x, y = settings.digits(batch * steps)
    replayed_step = gpucnn.capture(captured.train_step)
    differing = []
    for step in range(steps):
        images, labels = (gpucnn.tensor(values[step * batch : (step + 1) * batch]) for values in (x, y))
        rate = 10.0 ** -(2 + step % 3)
        eager.optimizer.learning_rate = captured.optimizer.learning_rate = rate
        expected, got = eager.train_step(images, labels).numpy(), replayed_step(images, labels).numpy()
        if expected.tobytes() != got.tobytes():
            differing.append(f"loss of step {step + 1}: {got} instead of {expected}")
        differing += [f"{name} after step {step + 1}" for name in _differing_weights(eager, captured)]
        if differing:
            break
        _poison_freed_memory(backend)
    return differing


def _compare_graphs(
    settings: Settings,
    backend: Backend,
    eager: Sequential,
    captured: Sequential,
    batch: int,
    repeat: int,
    launches: int,
) -> tuple[int, list[str]]:
    """Return the number of steps and what differs when graphs of `repeat` steps replace them."""
    from gpucnn.training.captured_step import Recording
    from gpucnn.training.loop import train_on
    from gpucnn.training.resident import ResidentData

    steps = _EAGER_CALLS + 1 + repeat * launches
    x, y = settings.digits(batch * steps)
    order = np.random.default_rng(3).permutation(len(x)).astype(np.int32)

    def step_of(model: Sequential) -> Any:
        data = ResidentData(x, y, backend, model.dtype)
        data.start(order)
        return lambda: train_on(model, *data.take(batch))

    eager_step, recording = step_of(eager), Recording(step_of(captured), backend)
    for _ in range(steps):
        expected = eager_step()
    for count in (*[1] * (_EAGER_CALLS + 1), *[repeat] * launches):
        got = recording(count)
        _poison_freed_memory(backend)
    differing = list(_differing_weights(eager, captured))
    if expected.numpy().tobytes() != got.numpy().tobytes():
        differing.append(f"last loss: {got.numpy()} instead of {expected.numpy()}")
    return steps, differing


def _differing_weights(one: Sequential, other: Sequential) -> list[str]:
    mine, others = one.state_dict(), other.state_dict()
    return [name for name in mine if mine[name].tobytes() != others[name].tobytes()]


def _poison_freed_memory(backend: Backend) -> None:
    """Let NaN lie wherever freed memory is handed out again: a graph that uses it unlawfully shows it."""
    from gpucnn.specs import ArraySpec

    gc.collect()
    poisoned = []
    for kilobytes in (1, 4, 16, 64, 256, 1024):
        for _ in range(4):
            count = kilobytes * 256
            array = backend.empty((count,), "float32")
            poisoned.append(backend.fill_forward(float("nan"), ArraySpec(count, "float32"), out=array))
    del poisoned
