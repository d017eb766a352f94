"""The small network of Keras's MNIST example."""

from __future__ import annotations

from gpucnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D
from gpucnn.model import Sequential


def mnist_convnet(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    *,
    activation: str = "relu",
    dropout: float = 0.5,
    dtype: str = "float32",
) -> Sequential:
    """Return the network of Keras's MNIST example: two convolutions of 32 and 64 filters 3x3, each pooled, and a dense
    layer behind a dropout: 34,826 parameters for 28x28 pixels of one channel and ten classes.

    Args:
        input_shape: (H, W, C), H and W at least 10.
        classes: number of outputs, softmax at the end.
        activation: of the convolutions.
        dropout: part of the dense layer's inputs that is dropped while training, at least 0 and below 1.
        dtype: "float32" or "float64".

    Raises:
        ValueError: H or W is too small, or another argument is out of range.

    Source: Chollet, "Simple MNIST convnet", keras.io/examples/vision/mnist_convnet, 2015.
    """
    layers = [
        Conv2D(32, 3, activation=activation, input_shape=input_shape),
        MaxPool2D(2),
        Conv2D(64, 3, activation=activation),
        MaxPool2D(2),
        Flatten(),
        Dropout(dropout),
        Dense(classes, activation="softmax"),
    ]
    return Sequential(layers, name="mnist_convnet", dtype=dtype)
