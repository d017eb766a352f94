"""Images from a file of one's own."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gpucnn.cli.images import model_input
from gpucnn.datasets import Preparation, write_idx
from gpucnn.datasets.image_file import read_image_file
from gpucnn.errors import DataError

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_arrays_and_idx_files(tmp_path):
    write_idx(tmp_path / "images.gz", PIXELS)
    np.save(tmp_path / "stack.npy", PIXELS)
    np.save(tmp_path / "with_channel.npy", PIXELS[..., None])
    for name in ("images.gz", "stack.npy", "with_channel.npy"):
        np.testing.assert_array_equal(read_image_file(tmp_path / name), PIXELS)
    np.save(tmp_path / "one.npy", PIXELS[0].astype(np.float32))
    found = read_image_file(tmp_path / "one.npy")
    assert found.shape == (1, 3, 4) and found.dtype == np.float32
    np.save(tmp_path / "colours.npy", np.stack([PIXELS] * 3, axis=-1))
    assert read_image_file(tmp_path / "colours.npy", channels=3).shape == (2, 3, 4, 3)
    np.save(tmp_path / "colour.npy", np.stack([PIXELS[0]] * 3, axis=-1))
    assert read_image_file(tmp_path / "colour.npy", channels=3).shape == (1, 3, 4, 3)


def test_pictures_become_grey_or_coloured_as_pillow_does(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    colours = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    for name in ("x.png", "x.ppm"):
        Image.fromarray(colours).save(tmp_path / name)
        np.testing.assert_array_equal(read_image_file(tmp_path / name, channels=3)[0], colours)
        grey = np.asarray(Image.fromarray(colours).convert("L"))
        np.testing.assert_array_equal(read_image_file(tmp_path / name)[0], grey)
    for name in ("g.png", "g.pgm"):
        Image.fromarray(PIXELS[0]).save(tmp_path / name)
        np.testing.assert_array_equal(read_image_file(tmp_path / name)[0], PIXELS[0])
        assert read_image_file(tmp_path / name, channels=3).shape == (1, 3, 4, 3)
    with pytest.raises(DataError, match="expected images of 2 channels, found a picture, which has 1 or 3"):
        read_image_file(tmp_path / "g.png", channels=2)


def test_without_pillow_pgm_is_read_and_png_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "x.pgm").write_bytes(b"P5 4 3 255\n" + PIXELS[0].tobytes())
    np.testing.assert_array_equal(read_image_file(tmp_path / "x.pgm")[0], PIXELS[0])
    with pytest.raises(DataError, match=r"reading pictures needs Pillow .*: pip install 'gpucnn\[images\]'"):
        read_image_file(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("array", "channels", "message"),
    [
        (np.zeros((2, 3, 4, 3), np.uint8), 1, r"expected images of 1 channels, found an array of shape \(2, 3, 4, 3\)"),
        (PIXELS, 3, r"expected images of 3 channels, found an array of shape \(2, 3, 4\)"),
        (np.zeros(5), 1, r"found an array of shape \(5,\)"),
        (np.zeros((0, 3, 4)), 1, r"found an array of shape \(0, 3, 4\)"),
        (np.array(["a"]), 1, "expected an array of real numbers, found <U1"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, channels, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=message):
        read_image_file(tmp_path / "x.npy", channels=channels)


def test_broken_files_are_refused(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"x.npy cannot be read as a NumPy array"):
        read_image_file(tmp_path / "x.npy")
    np.savez(tmp_path / "archive.npz", a=PIXELS)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    with pytest.raises(DataError, match="expected an array of real numbers, found an archive"):
        read_image_file(tmp_path / "archive.npy")
    with pytest.raises(DataError, match="expected an IDX file, found no such file"):
        read_image_file(tmp_path / "missing")


def test_images_are_prepared_as_those_of_the_training(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    settings = {"mean": 10.0, "deviation": 5.0, "image_shape": [3, 4, 1]}
    expected = Preparation((5, 6), 10.0, 5.0)(PIXELS)
    np.testing.assert_array_equal(model_input(tmp_path / "x.npy", (5, 6, 1), settings), expected)
    inverted = model_input(tmp_path / "x.npy", (3, 4, 1), settings, invert=True)
    np.testing.assert_array_equal(inverted[..., 0], Preparation((3, 4), 10.0, 5.0)(255 - PIXELS)[..., 0])
    plain = model_input(tmp_path / "x.npy", (3, 4, 1), {})
    np.testing.assert_allclose(plain[..., 0], PIXELS / np.float32(255), rtol=1e-7)
    np.save(tmp_path / "f.npy", PIXELS.astype(np.float64))
    as_it_is = model_input(tmp_path / "f.npy", (3, 4, 1), settings)
    assert as_it_is.dtype == np.float32 and as_it_is[0, 2, 3, 0] == 11


def test_images_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "f.npy", PIXELS.astype(np.float32))
    settings = {"mean": 10.0, "deviation": 5.0}
    with pytest.raises(
        DataError, match=r"x.npy: expected images of shape \(5, 6, 1\) or \(7, 7, 1\), found \(3, 4, 1\)"
    ):
        model_input(tmp_path / "x.npy", (7, 7, 1), {**settings, "image_shape": [5, 6, 1]})
    with pytest.raises(DataError, match=r"f.npy: expected images of shape \(5, 6, 1\), found \(3, 4, 1\)"):
        model_input(tmp_path / "f.npy", (5, 6, 1), {**settings, "image_shape": [3, 4, 1]})
    with pytest.raises(DataError, match=r"f.npy: the model takes no images .*, but samples of shape \(12,\)"):
        model_input(tmp_path / "f.npy", (12,), {})
    with pytest.raises(DataError, match="only images of uint8 can be inverted, found float32"):
        model_input(tmp_path / "f.npy", (3, 4, 1), settings, invert=True)
