"""`gpucnn train`."""

from __future__ import annotations

from pathlib import Path

import click

from gpucnn import optimizers, schedules, zoo
from gpucnn.cli.options import backend_option, data_options, load_dataset
from gpucnn.datasets import Preparation
from gpucnn.generator import seed as set_seed
from gpucnn.specs import ACTIVATIONS
from gpucnn.training import save_weights

WEIGHTS = "model.safetensors"
FIELD = (32, 32)
"""LeNet-5's classic input."""


@click.command(name="train")
@data_options
@click.option(
    "--activation",
    type=click.Choice(ACTIVATIONS),
    default="silu",
    show_default=True,
    help="Of the hidden layers; with relu, convolution and pooling are one launch.",
)
@click.option("--epochs", type=click.IntRange(0), default=3, show_default=True, help="Passes over the training data.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images a step.")
@click.option("--optimizer", type=click.Choice(["adam", "adamw", "sgd"]), default="adam", show_default=True)
@click.option("--learning-rate", type=float, help="Step size; the optimizer's own default where not given.")
@click.option(
    "--schedule",
    type=click.Choice(schedules.NAMES),
    default="cosine",
    show_default=True,
    help="How the learning rate changes over the training.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and dropout.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where to save; default runs/lenet5-DATASET.")
@backend_option
def command(
    dataset: str,
    data_dir: Path | None,
    activation: str,
    epochs: int,
    batch_size: int,
    optimizer: str,
    learning_rate: float | None,
    schedule: str,
    seed: int,
    run_dir: Path | None,
) -> None:
    """Train LeNet-5 and save its weights."""
    folder = run_dir or Path("runs") / f"lenet5-{dataset}"
    chosen = optimizers.get(optimizer)
    rate = chosen.learning_rate if learning_rate is None else learning_rate
    chosen.learning_rate = schedules.get(schedule, rate)
    (train_images, y_train), (test_images, y_test) = load_dataset(dataset, data_dir)
    prepare = Preparation.of(train_images, FIELD)
    x_train, x_test = prepare(train_images), prepare(test_images)
    set_seed(seed)
    model = zoo.lenet5(x_train.shape[1:], activation=activation)
    model.compile(optimizer=chosen, loss="sparse_categorical_crossentropy", metrics=["acc"])
    click.echo(
        f"lenet5, {sum(p.size for p in model.parameters()):,} parameters, on {model.backend.name}; "
        f"{len(x_train):,} training and {len(x_test):,} test images of {dataset}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    history = model.fit(x_train, y_train, batch_size=batch_size, epochs=epochs)
    result = model.evaluate(x_test, y_test, batch_size=500, return_dict=True)
    settings = {
        "model": "lenet5",
        "input_shape": list(x_train.shape[1:]),
        "classes": 10,
        "activation": activation,
        "mean": prepare.mean,
        "deviation": prepare.deviation,
        "dataset": dataset,
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": rate,
        "schedule": schedule,
        "seed": seed,
        "backend": model.backend.name,
        "history": history.history,
    }
    save_weights(model, folder / WEIGHTS, settings)
    click.echo(f"test loss {result['loss']:.4f}, test accuracy {result['acc']:.2%}; weights in {folder / WEIGHTS}")
