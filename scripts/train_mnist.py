#!/usr/bin/env python3
"""Train a small convolutional network with gpucnn, from the data to saved weights, in two ways.

    python scripts/train_mnist.py --dataset digits                    # drawn digits, nothing to download
    python scripts/train_mnist.py --data-dir path/to/mnist            # the four MNIST files
    python scripts/train_mnist.py --data-dir path/to/mnist --backend cuda --custom-loop

It runs from a checkout without installing gpucnn: numpy and click are enough, safetensors is needed to save.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # not needed where gpucnn is installed

import gpucnn
from gpucnn.datasets import Batches, digits, mnist
from gpucnn.errors import GpucnnError
from gpucnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D


def load(arguments: argparse.Namespace) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return (x, y) for training, validation and test; images are float32 (N, 28, 28, 1) in 0..1."""
    if arguments.dataset == "digits":
        (x, y), (x_test, y_test) = digits.load_data(train=arguments.images or 12_000)
    else:
        (x, y), (x_test, y_test) = mnist.load_data(arguments.data_dir)
        x, y = x[: arguments.images], y[: arguments.images]
    # Every choice (how long to train, which model to keep) is made on a slice of the training set, not on the test set.
    held_out = len(x) // 10
    splits = ((x[held_out:], y[held_out:]), (x[:held_out], y[:held_out]), (x_test, y_test))
    return tuple((images[..., None].astype(np.float32) / 255, labels) for images, labels in splits)


def build() -> gpucnn.Sequential:
    """Return the network. A layer learns its input's shape from the one before; images are (height, width, channel)."""
    model = gpucnn.Sequential()
    model.add(Conv2D(16, 5, padding="same", activation="relu", input_shape=(28, 28, 1)))
    model.add(MaxPool2D(2))
    model.add(Conv2D(32, 5, padding="same", activation="relu"))
    model.add(MaxPool2D(2))
    model.add(Flatten())
    model.add(Dropout(0.25))
    model.add(Dense(10, activation="softmax"))
    return model


def train_with_fit(model: gpucnn.Sequential, train: tuple, validation: tuple, arguments: argparse.Namespace) -> None:
    """Train as in Keras: compile, fit. On cuda the data goes to the GPU once, and many steps are one launch."""
    adam = gpucnn.optimizers.Adam(arguments.learning_rate)
    model.compile(optimizer=adam, loss="sparse_categorical_crossentropy", metrics=["acc"])
    model.fit(*train, batch_size=arguments.batch_size, epochs=arguments.epochs, validation_data=validation)


def train_with_a_loop(model: gpucnn.Sequential, train: tuple, validation: tuple, arguments: argparse.Namespace) -> None:
    """Train with a loop of one's own; `gpucnn.capture` turns its step into one graph launch on cuda."""
    optimizer = gpucnn.optimizers.Adam(arguments.learning_rate)
    optimizer.bind(model.parameters())
    model.compile(metrics=["acc"])  # for evaluate; the compiled optimizer is not used

    @gpucnn.capture
    def step(images: gpucnn.Tensor, labels: gpucnn.Tensor) -> gpucnn.Tensor:
        logits = model(images, training=True).logits  # what the softmax was taken of: the stable way to the loss
        loss = gpucnn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()  # also marks the gradients as used, so there is no zero_grad
        return loss

    batches = Batches(train[0], train[1].astype(np.int32), arguments.batch_size, seed=arguments.seed)
    for epoch in range(arguments.epochs):
        for images, labels in batches:
            loss = step(gpucnn.tensor(images), gpucnn.tensor(labels))
        # Reading a value waits for the GPU, so it is done once an epoch and not in the step.
        held_out = model.evaluate(*validation, batch_size=500, return_dict=True)
        print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.4f}, held-out accuracy {held_out['acc']:.2%}")


def main() -> None:
    """Parse the command line, train, test once, save."""
    parser = argparse.ArgumentParser(description="Train a small convolutional network with gpucnn.")
    parser.add_argument("--dataset", choices=["mnist", "digits"], default="mnist")
    parser.add_argument("--data-dir", type=Path, help="folder of the four MNIST files, raw or .gz")
    parser.add_argument("--images", type=int, help="use only so many training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=["auto", "numpy", "cuda", "emulated"], default="auto")
    parser.add_argument("--custom-loop", action="store_true", help="train with a loop written out instead of fit")
    parser.add_argument("--save", type=Path, help="file for the weights, e.g. mnist.safetensors")
    arguments = parser.parse_args()
    for name, least in (("images", 10), ("epochs", 0)):  # a tenth of the images is held out
        given = getattr(arguments, name)
        if given is not None and given < least:
            parser.error(f"--{name} must be at least {least}, got {given}")
    try:
        gpucnn.set_backend(arguments.backend)  # auto takes cuda when a launch succeeds, else numpy
        gpucnn.seed(arguments.seed)  # same seed, same bits: weights, order of the batches, dropout
        train, validation, test = load(arguments)
        model = build()
        model.summary()
        (train_with_a_loop if arguments.custom_loop else train_with_fit)(model, train, validation, arguments)
        result = model.evaluate(*test, batch_size=500, return_dict=True)
        print(f"test accuracy {result['acc']:.2%} on {result['count']:,} images, on {model.backend.name}")
        if arguments.save:
            gpucnn.save_weights(model, arguments.save, {"epochs": arguments.epochs, "seed": arguments.seed})
            print(f"weights in {arguments.save}")
    except (GpucnnError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
