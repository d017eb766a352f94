"""Ten training steps by kernels against the same ten by NumPy, the reference."""

from __future__ import annotations

import numpy as np

from gpu_sections.outcome import Outcome
from gpu_sections.settings import Settings

_STEPS = 10
_TOLERANCES = {"sgd": 5e-6, "adam": 1e-4}
"""Of the largest weight; DESIGN.md section 7."""


def run(settings: Settings, outcome: Outcome) -> None:
    """Train LeNet-5 on both backends from the same weights on the same batches and compare the weights."""
    settings.activate()
    batch = 2 if settings.tiny else 64
    table = outcome.table(
        f"LeNet-5 after {_STEPS} steps of {batch} images, {settings.backend} against numpy",
        ["optimizer", "largest difference", "allowed", "where", "largest difference of a loss"],
    )
    for name, tolerance in _TOLERANCES.items():
        (weights, losses), (expected, expected_losses) = (
            _train(settings, backend, name, batch) for backend in (settings.backend, "numpy")
        )
        largest = max(float(np.abs(value).max()) for value in expected.values())
        difference, where = max((float(np.abs(weights[k] - v).max()), k) for k, v in expected.items())
        relative = difference / largest
        finite = all(np.isfinite(value).all() for value in weights.values())
        detail = f"{where} differs by {relative:.3g} of the largest weight, allowed {tolerance:.3g}"
        outcome.check(f"{_STEPS} steps with {name}", finite and relative <= tolerance, detail)
        loss_difference = float(np.max(np.abs(np.subtract(losses, expected_losses))))
        table.add(name, relative, tolerance, where, loss_difference)
        outcome.fact(name, relative)
    found = ", ".join(f"{name} {outcome.record['facts'][name]:.1e}" for name in _TOLERANCES)
    outcome.find(f"{found} of the largest weight")


def _train(settings: Settings, backend: str, optimizer: str, batch: int) -> tuple[dict[str, np.ndarray], list[float]]:
    """Return the weights and the losses of ten steps."""
    import gpucnn
    from gpucnn.optimizers import SGD, Adam

    x, y = settings.digits(batch * _STEPS)
    with gpucnn.use_backend(backend):
        gpucnn.seed(11)
        model = gpucnn.zoo.lenet5()
        model.compile(optimizer=Adam(1e-3) if optimizer == "adam" else SGD(0.01, momentum=0.9))
        losses = []
        for first in range(0, len(x), batch):
            part = slice(first, first + batch)
            losses.append(model.train_step(gpucnn.tensor(x[part]), gpucnn.tensor(y[part])).item())
        return model.state_dict(), losses
