"""`gpucnn train`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from gpucnn import __version__, augment, backends, optimizers, schedules
from gpucnn.callbacks import BackupAndRestore, CSVLogger, TerminateOnNaN
from gpucnn.callbacks.callback import Logs
from gpucnn.cli import pictures
from gpucnn.cli.options import FIELDS, MODELS, OPTIMIZERS, backend_option, data_options, load_dataset
from gpucnn.cli.run_folder import RunFolder, given_options
from gpucnn.datasets import Preparation
from gpucnn.errors import CheckpointError
from gpucnn.generator import seed as set_seed
from gpucnn.model import Sequential
from gpucnn.model.fitting import held_back
from gpucnn.specs import ACTIVATIONS
from gpucnn.training import Interrupted
from gpucnn.training.weights import weights_hash

_CLASSES = 10
_ACTIVATIONS = {"lenet5": "silu"}
"""Where relu is not the best: silu learns MNIST a tenth of a point better."""
_EVALUATED = 500
"""Images that are evaluated at once."""


def _checked_changes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse what `augment.from_text` does not know before anything is read."""
    if value is not None:
        try:
            augment.from_text(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


@click.command(name="train")
@data_options
@click.option("--model", type=click.Choice(tuple(MODELS)), default="lenet5", show_default=True, help="What learns.")
@click.option(
    "--activation",
    type=click.Choice(ACTIVATIONS),
    help="Of the hidden layers; by default silu for lenet5, else relu, which makes convolution and pooling one launch.",
)
@click.option(
    "--augment",
    metavar="CHANGES",
    callback=_checked_changes,
    help="Change training images at random: flip, shift=FACTOR, rotate=DEGREES, erase=LIKELIHOOD, between commas; "
    "values may be left out.",
)
@click.option("--epochs", type=click.IntRange(0), default=3, show_default=True, help="Passes over the training data.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images a step.")
@click.option(
    "--optimizer", type=click.Choice(OPTIMIZERS), default="adam", show_default=True, help="What changes the weights."
)
@click.option(
    "--learning-rate", type=float, help="Step size, the largest of a schedule; the optimizer's own where not given."
)
@click.option(
    "--schedule",
    type=click.Choice(schedules.NAMES),
    default="cosine",
    show_default=True,
    help="How the learning rate changes over the training.",
)
@click.option(
    "--validation-split",
    type=float,
    default=0.05,
    show_default=True,
    help="Share of the training images, the last ones, that is held out and evaluated after every epoch.",
)
@click.option("--limit-batches", type=click.IntRange(1), help="Batches of an epoch at most, to try something out.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and dropout.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Folder for the files; default runs/MODEL-DATASET.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the training in the folder, at the step where it ended; other options may be left out then.",
)
@click.option("--overwrite", is_flag=True, help="Begin anew in a folder that holds another training.")
@backend_option
@click.pass_context
def command(ctx: click.Context, /, run_dir: Path | None, resume: bool, overwrite: bool, **options: Any) -> None:
    """Train a model and keep what it learned in a folder.

    The folder gets config.json, metrics.csv (a row an epoch), checkpoint.safetensors (what --resume needs),
    model.safetensors and, where matplotlib is installed, curves.png, confusion.png and filters.png.

    Ctrl-C ends the training after the step under way, with a checkpoint: resumed, it ends with the same weights, to the
    bit, as one that was not interrupted. The test images are evaluated once, at the end.
    """
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    options = {
        str(p.name): options[p.name] for p in ctx.command.params if p.name in options
    }  # in the order of the help
    folder = RunFolder(run_dir or Path("runs") / f"{options['model']}-{options['dataset']}")
    given = given_options(ctx)
    if resume:
        options = folder.resumed(_completed(options), given)
        if "backend" not in given:
            backends.set_backend(options["backend"])
        options["backend"] = backends.get_backend().name
    else:
        options = _completed(options)
        held = folder.claim(options, overwrite=overwrite)
    training = _Training(options)
    if resume:
        training.require_same_images(folder)
    elif held:
        folder.clear()
    training.run(ctx, folder, resume)


def _completed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as config.json holds them, with the values of those that were not given."""
    rate = optimizers.get(options["optimizer"]).learning_rate
    return {
        **options,
        "data_dir": None if options["data_dir"] is None else str(options["data_dir"].absolute()),
        "activation": options["activation"] or _ACTIVATIONS.get(options["model"], "relu"),
        "learning_rate": rate if options["learning_rate"] is None else options["learning_rate"],
        "backend": backends.get_backend().name,
    }


class _Checkpoint(BackupAndRestore):
    """Writes the configuration too, once it is certain that the training can begin, or go on, as configured."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        super().__init__(folder.checkpoint, delete_checkpoint=False)
        self._folder, self._config = folder, config

    def on_train_begin(self, logs: Logs) -> None:
        super().on_train_begin(logs)
        self._folder.write_config(self._config)
        progress = self.progress
        if progress.epochs and progress.epoch == progress.epochs.stop:
            click.echo("the training is over")
        elif progress.epoch or progress.batch:
            click.echo(f"resumed in epoch {progress.epoch + 1}, after {progress.batch} of {progress.batches} batches")


class _Training:
    """Data and a model as the options say.

    Args:
        options: complete.

    Raises:
        DataError: the data set is not there or damaged.
        ValueError: an option is out of range.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        optimizer = optimizers.get(options["optimizer"])
        optimizer.learning_rate = schedules.get(options["schedule"], options["learning_rate"])
        folder = None if options["data_dir"] is None else Path(options["data_dir"])
        (x_train, y_train), (x_test, y_test) = load_dataset(options["dataset"], folder)
        prepare = Preparation.of(x_train, FIELDS.get(options["model"], x_train.shape[1:3]))
        self._train, self._test = (prepare(x_train), y_train), (prepare(x_test), y_test)
        self._kept = held_back(len(x_train), options["validation_split"])
        shape = self._train[0].shape[1:]
        set_seed(options["seed"])
        self.model: Sequential = MODELS[options["model"]](shape, _CLASSES, activation=options["activation"])
        if options["augment"] is not None:
            changes = augment.from_text(options["augment"], prepare.background)
            self.model = Sequential([*changes, *self.model.layers], name=self.model.name)
            self.model.build(shape)
        self.model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["acc"])
        self._images = {"mean": prepare.mean, "deviation": prepare.deviation}
        self.config = {
            **options, "gpucnn": __version__, "input_shape": list(shape), "classes": _CLASSES, **self._images,
            "image_shape": [*x_train.shape[1:3], shape[2]],
        }  # fmt: skip

    def require_same_images(self, folder: RunFolder) -> None:
        """Raise CheckpointError where the training in a folder had other images."""
        config = folder.read_config() or {}
        if any(config.get(name) != value for name, value in self._images.items()):
            raise CheckpointError(
                f"{folder.path} was trained on other images: their mean was {config.get('mean')}, "
                f"here it is {self._images['mean']}"
            )

    def run(self, ctx: click.Context, folder: RunFolder, resume: bool) -> None:
        """Train, test, and write the files; the exit code is 130 after Ctrl-C."""
        self._introduce()
        ending, checkpoint = TerminateOnNaN(), _Checkpoint(folder, self.config)
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            history = self.model.fit(
                *self._train,
                batch_size=self._options["batch_size"],
                epochs=self._options["epochs"],
                validation_split=self._options["validation_split"],
                limit_batches=self._options["limit_batches"],
                callbacks=[CSVLogger(folder.metrics, append=resume), ending, checkpoint],
            ).history
        except Interrupted as stop:
            at = checkpoint.progress
            place = f"in epoch {at.epoch + 1}, after {at.batch} of {at.batches} batches"
            click.echo(f"interrupted {place}; `gpucnn train --resume --run-dir {folder.path}` goes on", err=True)
            ctx.exit(128 + stop.number)
        if ending.message:
            raise click.ClickException(f"the training diverged: {ending.message}; {_what_is_left(folder)}")
        drawn = ("confusion_matrix",) if pictures.available() else ()
        tested = self.model.evaluate(*self._test, batch_size=_EVALUATED, metrics=drawn, return_dict=True)
        if not math.isfinite(tested["loss"]):
            raise click.ClickException(f"the training diverged: the test loss is {tested['loss']}")
        result = {"loss": tested["loss"], "accuracy": tested["acc"], "count": tested["count"]}
        digest = weights_hash(self.model.state_dict())
        self.model.save(folder.model, {**self.config, "history": history, "test": result, "weights_sha256": digest})
        click.echo(f"test loss {result['loss']:.4f}, test accuracy {result['accuracy']:.2%}")
        click.echo(f"weights sha256 {digest}")
        if drawn:
            self._draw(folder, history, tested["confusion_matrix"])
        else:
            click.echo(f"no pictures: {pictures.MISSING}")
        click.echo(f"saved in {folder.path}")

    def _introduce(self) -> None:
        counts = {"training": self._kept, "validation": len(self._train[0]) - self._kept, "test": len(self._test[0])}
        shown = [f"{count:,} {kind}" for kind, count in counts.items() if count]
        click.echo(
            f"{self._options['model']}, {sum(p.size for p in self.model.parameters()):,} parameters, "
            f"on {self.model.backend.name}; {', '.join(shown[:-1])} and {shown[-1]} images of "
            f"{self._options['dataset']}"
        )

    def _draw(self, folder: RunFolder, history: Mapping[str, list[float]], confusion: np.ndarray) -> None:
        if history:
            pictures.draw_curves(folder.curves, history)
        pictures.draw_confusion(folder.confusion, confusion)
        pictures.draw_filters(folder.filters, next(p.numpy() for p in self.model.parameters() if len(p.shape) == 4))


def _what_is_left(folder: RunFolder) -> str:
    kept = f"the last good checkpoint is {folder.checkpoint}" if folder.checkpoint.exists() else "no epoch was finished"
    return f"{kept}; try a smaller --learning-rate"
