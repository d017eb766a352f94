"""From uint8 images to a network's input."""

from __future__ import annotations

import numpy as np
import pytest

from gpucnn.datasets import Preparation


def test_images_are_centred_on_background_and_standardised() -> None:
    images = np.array([[[0, 10, 20], [30, 40, 50]], [[5, 15, 25], [35, 45, 250]]], np.uint8)
    prepare = Preparation.of(images, (5, 4))
    pixels = [float(p) for p in images.ravel()]
    mean = sum(pixels) / 12
    deviation = (sum((p - mean) ** 2 for p in pixels) / 12) ** 0.5
    assert prepare.mean == pytest.approx(mean) and prepare.deviation == pytest.approx(deviation)
    found = prepare(images)
    assert found.shape == (2, 5, 4, 1) and found.dtype == np.float32
    background = -mean / deviation
    for n in range(2):
        for h in range(5):
            for w in range(4):
                inside = 1 <= h < 3 and w < 3
                want = (float(images[n, h - 1, w]) - mean) / deviation if inside else background
                assert found[n, h, w, 0] == pytest.approx(want, rel=1e-6)


def test_of_the_same_size_and_none_at_all() -> None:
    prepare = Preparation((2, 2), 1.0, 2.0)
    np.testing.assert_array_equal(prepare(np.array([[[1, 3], [5, 7]]], np.uint8))[..., 0], [[[0, 1], [2, 3]]])
    assert prepare(np.zeros((0, 2, 2), np.uint8)).shape == (0, 2, 2, 1)


def test_colours_stay_the_last_axis() -> None:
    images = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    found = Preparation((4, 4), 1.0, 2.0)(images)
    assert found.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(found[:, 1:3, 1:3], (images - 1.0) / 2)
    np.testing.assert_array_equal(found[:, 0], np.full((2, 4, 3), -0.5))


def test_what_cannot_be_prepared() -> None:
    with pytest.raises(ValueError, match=r"^images of \(28, 33\) pixels do not fit the field \(32, 32\)$"):
        Preparation((32, 32), 0.0, 1.0)(np.zeros((1, 28, 33), np.uint8))
    with pytest.raises(ValueError, match=r"^images cannot be standardised: their standard deviation is 0.0$"):
        Preparation.of(np.full((3, 2, 2), 7, np.uint8), (2, 2))
