"""The folder of a training: what it holds, and whether a training may begin, or go on, in it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from gpucnn.errors import CheckpointError, DataError
from gpucnn.training.tensor_file import write_atomically
from gpucnn.training.weights import read_weights

CONFIG, METRICS, MODEL, CHECKPOINT = "config.json", "metrics.csv", "model.safetensors", "checkpoint.safetensors"
MAY_CHANGE = frozenset({"epochs", "backend", "data_dir"})
"""Options that may be others when a training goes on."""


class RunFolder:
    """A folder for the files of one training.

    Args:
        path: of the folder; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / CONFIG
        self.metrics = path / METRICS
        self.model = path / MODEL
        self.checkpoint = path / CHECKPOINT
        self.curves, self.confusion, self.filters = (
            path / f"{name}.png" for name in ("curves", "confusion", "filters")
        )
        self._files = [
            self.config, self.metrics, self.model, self.checkpoint, self.curves, self.confusion, self.filters
        ]  # fmt: skip

    def read_config(self) -> dict[str, Any] | None:
        """Return what the training in it was started with, None where there is none.

        Raises:
            DataError: it cannot be read.
        """
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"cannot read {self.config}: {error}") from error
        if not isinstance(config, dict):
            raise DataError(f"{self.config} holds no JSON object but {type(config).__name__}")
        return config

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write what a training is started with, and make the folder where there is none."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config, (json.dumps(config, indent=2) + "\n").encode())

    def resumed(self, options: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """Return the options of the training in the folder, with those that are given anew.

        Args:
            options: of the command, by name.
            given: names of those that the user gave.

        Raises:
            CheckpointError: there is no training in the folder, or a given option is not what it was started with.
        """
        config = self.read_config()
        if config is None:
            raise CheckpointError(f"there is nothing to resume: {self.config} does not exist")
        missing = [name for name in options if name not in config]
        if missing:
            raise CheckpointError(f"{self.config} lacks {', '.join(missing)}: it is not from `gpucnn train`")
        fixed = {name: value for name, value in options.items() if name in given and name not in MAY_CHANGE}
        wrong = differences(config, fixed)
        if wrong:
            raise CheckpointError(f"{self.path} holds another training: {wrong}")
        if "epochs" in given and options["epochs"] != config["epochs"] and config["schedule"] != "constant":
            raise CheckpointError(
                f"--epochs {options['epochs']}: the {config['schedule']} schedule of {self.path} is laid out over "
                f"{config['epochs']} epochs; only with a constant one can a training end elsewhere"
            )
        return {name: options[name] if name in given else config[name] for name in options}

    def claim(self, options: Mapping[str, Any], *, overwrite: bool) -> bool:
        """See that a training may begin in the folder; nothing is changed yet.

        It may where no training is, or the very same one, finished: it would give the same bits.

        Returns:
            Whether files of an earlier training are there, for `clear` to remove.

        Raises:
            CheckpointError: another training is there, or one that was interrupted, and is not to be overwritten.
        """
        held = [path.name for path in self._files if path.exists()]
        if not held or overwrite:
            return bool(held)
        ways = "--overwrite begins anew, --run-dir names another folder"
        config = self.read_config()
        if config is None:
            raise CheckpointError(f"{self.path} holds {', '.join(held)} of another program; {ways}")
        wrong = differences(config, {name: value for name, value in options.items() if name != "data_dir"})
        if wrong:
            raise CheckpointError(f"{self.path} holds another training: {wrong}; {ways}")
        if not self._finished(config):
            raise CheckpointError(f"{self.path} holds this training, interrupted; --resume goes on with it, {ways}")
        return True

    def clear(self) -> None:
        """Remove the files of an earlier training, and nothing else."""
        for path in self._files:
            path.unlink(missing_ok=True)

    def _finished(self, config: Mapping[str, Any]) -> bool:
        """Say whether the model in the folder is what a training with this configuration ends with."""
        try:
            _, about = read_weights(self.model)
        except CheckpointError:
            return False
        return {name: about.get(name) for name in config} == config


def differences(held: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Say in which options a training in a folder differs from one here."""

    def shown(value: Any) -> Any:
        return "not given" if value is None else value

    return ", ".join(
        f"--{name.replace('_', '-')} is {shown(held.get(name))} there and {shown(value)} here"
        for name, value in here.items()
        if held.get(name) != value
    )


def given_options(ctx: click.Context) -> set[str]:
    """Return the names of the options that the user gave, on the command line or in the environment."""
    defaults = (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP)
    return {name for name in ctx.params if ctx.get_parameter_source(name) not in defaults}
