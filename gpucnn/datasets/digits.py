"""A data set that needs no download: digits drawn from strokes, as `load_data` of the other data sets returns them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpucnn.datasets.digit_drawing import Hand, draw_digits

CLASSES = 10
_TRAIN_STREAM, _TEST_STREAM = 0, 1
_SEED_DOMAIN = 0xD161

Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def load_data(train: int = 12_000, test: int = 2_000, seed: int = 0) -> tuple[Split, Split]:
    """Draw a training and a test set of hand-written-looking digits.

    Every picture is a digit in one of its styles with displaced strokes, elastic and affine distortion, its own
    thickness and ink, and noise. The same seed gives the same bits; the first n pictures do not depend on how many
    are asked for, nor either set on the size of the other; the two come from different random streams.

    Args:
        train: number of training pictures, at least 0.
        test: number of test pictures, at least 0.
        seed: which set to draw, at least 0.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: uint8 images (train, 28, 28) and (test, 28, 28), 0 black to 255 full
        ink, and uint8 labels (train,) and (test,) from 0 to 9, every digit equally likely.

    Raises:
        TypeError: an argument is no integer.
        ValueError: an argument is negative.

    Cost: about 0.2 ms a picture on one core.

    >>> (x_train, y_train), (x_test, y_test) = load_data(train=5, test=2)
    >>> x_train.shape, x_train.dtype, y_test.shape
    ((5, 28, 28), dtype('uint8'), (2,))
    """
    for name, value in (("train", train), ("test", test), ("seed", seed)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
    return _draw(int(train), int(seed), _TRAIN_STREAM), _draw(int(test), int(seed), _TEST_STREAM)


def _draw(count: int, seed: int, stream: int) -> Split:
    return draw_digits(count, np.random.SeedSequence(seed, spawn_key=(_SEED_DOMAIN, stream)), Hand())
