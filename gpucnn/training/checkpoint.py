"""Checkpoints: everything that a fit needs to go on, at any step, as if it had not stopped.

One safetensors file holds the parameters, the optimizer's moments and counts, the sums of the epoch under way and what
callbacks keep; its JSON metadata the rest: where the fit is, the model's random numbers, its settings, the plans that
ran, the history. Reading one runs no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from gpucnn.errors import CheckpointError
from gpucnn.training.progress import History, Progress
from gpucnn.training.tensor_file import TensorFile

CHECKPOINT = TensorFile("gpucnn checkpoint", 1, "a checkpoint")
_MODEL, _OPTIMIZER, _TOTALS, _KEPT = "model/", "optimizer/", "totals/", "kept/"
_RATE = "learning_rate"


class Stateful(Protocol):
    """What has a state of its own beside the model: a callback."""

    def state_dict(self) -> dict[str, Any]:
        """Return JSON values and arrays by name."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""


class NotFiniteError(CheckpointError):
    """A state was not saved, for it holds a number that is not finite."""


def save_checkpoint(
    path: str | os.PathLike[str],
    progress: Progress,
    kept: Sequence[Stateful] = (),
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write where a fit is. It waits for the device; an older file is replaced once the new one is whole.

    Args:
        path: file to write.
        progress: of the fit, between two launches.
        kept: callbacks whose state goes along.
        metadata: what else to keep, as JSON.

    Raises:
        NotFiniteError: a parameter, a moment or the loss is not finite; an older file is left as it was.
        CheckpointError: the file cannot be written; as above.
    """
    model = progress.model
    arrays = {
        **_prefixed(_MODEL, model.state_dict()),
        **_prefixed(_OPTIMIZER, model.optimizer.state_dict()),
        **_prefixed(_TOTALS, progress.runner.totals.state_dict()),
    }
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NotFiniteError(f"{path} was not written: {name} is not finite")
    states = []
    for i, thing in enumerate(kept):
        state = thing.state_dict()
        arrays |= _prefixed(f"{_KEPT}{i}/", {n: v for n, v in state.items() if isinstance(v, np.ndarray)})
        plain = {n: v for n, v in state.items() if not isinstance(v, np.ndarray)}
        states.append({"kind": type(thing).__name__, "state": plain})
    about = {
        "epoch": progress.epoch,
        "batch": progress.batch,
        "seconds": progress.seconds,
        "generator": model.generator.state_dict(model.backend),
        "settings": _settings(progress),
        "numbers": {name: v for name, v in model.optimizer.settings().items() if isinstance(v, float)},
        "plans": model.backend.plan_record(),
        "history": {name: [_plain(v) for v in values] for name, values in progress.history.history.items()},
        "kept": states,
        "metadata": dict(metadata or {}),
    }
    CHECKPOINT.write(path, arrays, about)


def restore_checkpoint(path: str | os.PathLike[str], progress: Progress, kept: Sequence[Stateful] = ()) -> None:
    """Bring a fit to where a checkpoint was written: model, optimizer, random numbers, position, history, plans.

    Numbers of the optimizer that may change while it trains are those of the checkpoint. Saved on another backend, all
    values are the same, but the plans are this backend's own.

    Args:
        path: file to read.
        progress: of a fit that has not begun.
        kept: callbacks that get their state back, of the kinds and in the order that were saved.

    Raises:
        CheckpointError: the file cannot be read, or it does not fit; all differences are listed and nothing is changed.
    """
    arrays, about = CHECKPOINT.read(path)
    model = progress.model
    try:
        epoch, batch, seconds = int(about["epoch"]), int(about["batch"]), float(about["seconds"])
        wrong = _differences(about["settings"], _settings(progress)) + _misplaced(epoch, batch, progress)
        states = about["kept"]
        mine, theirs = [type(thing).__name__ for thing in kept], [state["kind"] for state in states]
        if mine != theirs:
            wrong.append(f"it keeps the state of {_listed(theirs)}, this fit has {_listed(mine)}")
        if wrong:
            raise CheckpointError(f"{path} does not fit this training: {'; '.join(wrong)}")
        history = {str(name): [_measured(v) for v in values] for name, values in about["history"].items()}
        with _unchanged_unless_whole(progress):
            model.load_state_dict(_part(_MODEL, arrays))
            model.optimizer.load_state_dict(_part(_OPTIMIZER, arrays))
            progress.runner.totals.load_state_dict(_part(_TOTALS, arrays))
            model.generator.load_state_dict(model.backend, about["generator"])
            for i, (thing, state) in enumerate(zip(kept, states, strict=True)):
                thing.load_state_dict({**state["state"], **_part(f"{_KEPT}{i}/", arrays)})
            for name, value in about["numbers"].items():
                if name == _RATE or name in model.optimizer.values:
                    setattr(model.optimizer, name, value)
            model.backend.pin_plans(about["plans"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not fit this training: {error}") from error
    progress.runner.seed = model.generator.seed
    progress.epoch, progress.batch, progress.seconds, progress.history = epoch, batch, seconds, History(history)


@contextmanager
def _unchanged_unless_whole(progress: Progress) -> Iterator[None]:
    """Put everything back that was changed inside the `with` block if an exception ends it."""
    model = progress.model
    kept = model.state_dict(), model.optimizer.state_dict(), progress.runner.totals.state_dict()
    generator, numbers = model.generator.state_dict(model.backend), model.optimizer.settings()
    try:
        yield
    except Exception:
        model.load_state_dict(kept[0])
        model.optimizer.load_state_dict(kept[1])
        progress.runner.totals.load_state_dict(kept[2])
        model.generator.load_state_dict(model.backend, generator)
        for name, value in numbers.items():
            if isinstance(value, float) and (name == _RATE or name in model.optimizer.values):
                setattr(model.optimizer, name, value)
        raise


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the metadata that a checkpoint was saved with; CheckpointError when it cannot be read."""
    return dict(CHECKPOINT.read(path)[1].get("metadata", {}))


def _settings(progress: Progress) -> dict[str, Any]:
    """Return what must not differ between a fit and the one that it goes on from."""
    model = progress.model
    fixed = {n: v for n, v in model.optimizer.settings().items() if n not in model.optimizer.values}
    if isinstance(fixed[_RATE], float):
        fixed[_RATE] = "constant"
    settings = {
        **progress.runner.settings,
        **fixed,
        "schedule_steps": model.optimizer.schedule_steps,
        "loss": type(model.loss).__name__,
        "dtype": model.dtype,
        "precision": model.precision,
        "architecture": progress.architecture,
    }
    # As they are read back: tuples are lists, and of what is no JSON only the kind is known.
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=lambda value: type(value).__name__))
    return plain


def _differences(saved: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    names = [*here, *(name for name in saved if name not in here)]
    return [
        f"{name} is {saved.get(name)!r} there and {here.get(name)!r} here"
        for name in names
        if saved.get(name) != here.get(name)
    ]


def _misplaced(epoch: int, batch: int, progress: Progress) -> list[str]:
    """Say where a position is not within a fit."""
    found = []
    if not progress.epochs.start <= epoch <= progress.epochs.stop:
        found.append(f"it is in epoch {epoch}, this fit runs from {progress.epochs.start} to {progress.epochs.stop}")
    if not 0 <= batch <= progress.batches:
        found.append(f"it is at batch {batch} of {progress.batches}")
    return found


def _plain(value: Any) -> Any:
    """Return a number or an array of the history as JSON."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def _measured(value: Any) -> Any:
    """Return what `_plain` was given; ValueError for anything but numbers."""
    if not isinstance(value, list):
        return float(value)
    array = np.array(value)
    if array.dtype.kind not in "if":
        raise ValueError(f"the history holds {value!r:.100}, which is no array of numbers")
    return array


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no callback"


def _prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}{name}": value for name, value in arrays.items()}


def _part(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
