"""The same seed gives the same bits: three processes train, their weights have one hash; in float32, and in bfloat16 on
tensor cores."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from gpu_sections.environment import installed
from gpu_sections.outcome import Outcome, Table
from gpu_sections.settings import Settings
from gpu_sections.worker import call

if TYPE_CHECKING:
    from gpucnn.model import Sequential

_RUNS = 3


def run(settings: Settings, outcome: Outcome) -> None:
    """Train in fresh processes, so that addresses and timings differ, and compare."""
    table = outcome.table("Trained in processes of their own", ["what", "run", "weights (SHA-256)", "training loss"])
    strict = _repeated(settings, outcome, table, "LeNet-5, float32", train_lenet5)
    other = call(train_with_another_seed, settings)
    table.add("LeNet-5, float32", "another seed", other["weights"][:16], other["loss"])
    outcome.check("another seed gives another result", other["weights"] not in strict)
    told = strict
    if installed("ml_dtypes"):
        told = strict | _repeated(settings, outcome, table, "wider network, bfloat16", train_on_tensor_cores)
    else:
        outcome.left_out("bfloat16", 1, "ml_dtypes is not installed")
    if all(check["passed"] for check in outcome.record["checks"]):
        outcome.find(f"{_RUNS} runs, one hash: {', '.join(weights[:16] for weights in told)}")


def _repeated(settings: Settings, outcome: Outcome, table: Table, what: str, train: Any) -> dict[str, None]:
    """Train some times with one seed and check that the results are equal; return the hashes of the weights."""
    results = [call(train, settings) for _ in range(_RUNS)]
    for number, result in enumerate(results, 1):
        table.add(what, number, result["weights"][:16], result["loss"])
    different = len({(result["weights"], result["loss"]) for result in results})
    outcome.check(
        f"{what}: {_RUNS} runs with one seed",
        different == 1,
        "" if different == 1 else f"{different} different results",
    )
    return dict.fromkeys(result["weights"] for result in results)


def train_lenet5(settings: Settings, seed: int = 5) -> dict[str, Any]:
    """Train LeNet-5 in float32; return the hash of its weights and its loss."""
    from gpucnn import zoo

    return _train(settings, zoo.lenet5, "float32", seed)


def train_with_another_seed(settings: Settings) -> dict[str, Any]:
    """Train as `train_lenet5` does, with other random numbers."""
    return train_lenet5(settings, seed=6)


def train_on_tensor_cores(settings: Settings) -> dict[str, Any]:
    """Train a network whose channels are multiples of 8, as tensor cores take them, in bfloat16."""
    return _train(settings, _tensor_cores, "mixed_bfloat16", 5)


def _tensor_cores() -> Sequential:
    import gpucnn
    from gpucnn.layers import Conv2D, Dense, Flatten

    layers = [
        Conv2D(16, 3, strides=2, activation="relu", input_shape=(28, 28, 1)),
        Conv2D(32, 3, padding="same", activation="relu"),
        Conv2D(32, 3, strides=2, activation="relu"),
        Flatten(),
        Dense(64, activation="relu"),
        Dense(10, activation="softmax"),
    ]
    return gpucnn.Sequential(layers)


def _train(settings: Settings, make: Any, precision: str, seed: int) -> dict[str, Any]:
    import gpucnn

    settings.activate()
    x, y = settings.digits(14 if settings.tiny else 6000)
    gpucnn.seed(seed)
    model = make()
    model.compile(optimizer="adam", metrics=["acc"], precision=precision)
    history = model.fit(x, y, batch_size=3 if settings.tiny else 64, epochs=1 if settings.tiny else 2, verbose=0)
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.tobytes())
    return {"weights": digest.hexdigest(), "loss": history.history["loss"][-1]}
