"""The same seed gives the same bits: three processes train, their weights have one hash."""

from __future__ import annotations

import hashlib
from typing import Any

from gpu_sections.outcome import Outcome
from gpu_sections.settings import Settings
from gpu_sections.worker import call

_RUNS = 3


def run(settings: Settings, outcome: Outcome) -> None:
    """Train in fresh processes, so that addresses and timings differ, and compare."""
    table = outcome.table("LeNet-5 trained in processes of their own", ["run", "weights (SHA-256)", "training loss"])
    hashes = set()
    for number in range(1, _RUNS + 1):
        result = call(train, settings)
        hashes.add((result["weights"], result["loss"]))
        table.add(number, result["weights"][:16], result["loss"])
    equal = len(hashes) == 1
    outcome.check(f"{_RUNS} runs with one seed", equal, "" if equal else f"{len(hashes)} different results")
    other = call(train_with_another_seed, settings)
    table.add("another seed", other["weights"][:16], other["loss"])
    outcome.check("another seed gives another result", other["weights"] not in {weights for weights, _ in hashes})
    if equal:
        outcome.find(f"{_RUNS} runs, one hash: {next(iter(hashes))[0][:16]}")


def train(settings: Settings, seed: int = 5) -> dict[str, Any]:
    """Train LeNet-5 for an epoch with `fit`; return the hash of its weights and its loss."""
    import gpucnn

    settings.activate()
    x, y = settings.digits(14 if settings.tiny else 6000)
    gpucnn.seed(seed)
    model = gpucnn.zoo.lenet5()
    model.compile(optimizer="adam", metrics=["acc"])
    history = model.fit(x, y, batch_size=3 if settings.tiny else 64, epochs=1 if settings.tiny else 2, verbose=0)
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.tobytes())
    return {"weights": digest.hexdigest(), "loss": history.history["loss"][-1]}


def train_with_another_seed(settings: Settings) -> dict[str, Any]:
    """Train as `train` does, with other random numbers."""
    return train(settings, seed=6)
