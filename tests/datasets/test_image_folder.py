"""Data sets of one's own: folders of pictures, and everything that is no picture."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpucnn.datasets import image_folder
from gpucnn.errors import DataError


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return array


def ppm(array: np.ndarray) -> bytes:
    """Encode by hand: the reference for what is read."""
    kind = b"P6" if array.ndim == 3 else b"P5"
    return kind + f"\n{array.shape[1]} {array.shape[0]}\n255\n".encode() + bytes(array.ravel().tolist())


def test_classes_and_pictures_are_sorted(tmp_path: Path) -> None:
    expected = []
    for name, file, seed in (("b", "2.ppm", 0), ("a", "x.PPM", 1), ("b", "1.ppm", 2), ("B", "z.ppm", 3)):
        (tmp_path / name).mkdir(exist_ok=True)
        array = pixels(3, 5, seed=seed)
        (tmp_path / name / file).write_bytes(ppm(array))
        expected.append(array)
    (tmp_path / "a" / ".DS_Store").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("not a class")
    images, labels, names = image_folder(tmp_path)
    assert names == ["B", "a", "b"] and labels.dtype == np.int32
    assert labels.tolist() == [0, 1, 2, 2]
    np.testing.assert_array_equal(images, np.stack([expected[i] for i in (3, 1, 2, 0)]), strict=True)


@pytest.mark.parametrize("suffix", ["png", "ppm", "jpg", "jpeg"])
def test_reads_each_format(tmp_path: Path, suffix: str) -> None:
    # JPEG keeps a single colour; the others keep everything.
    array = pixels(6, 4) if suffix in ("png", "ppm") else np.full((6, 4, 3), (200, 30, 90), np.uint8)
    save(tmp_path / "a" / f"x.{suffix}", array)
    images, _, _ = image_folder(tmp_path)
    assert np.abs(images[0].astype(int) - array).max() <= (0 if suffix in ("png", "ppm") else 2)


def test_grey_pictures_become_either(tmp_path: Path) -> None:
    array = pixels(3, 2, 1)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.pgm").write_bytes(ppm(array))
    np.testing.assert_array_equal(
        image_folder(tmp_path, color_mode="grayscale")[0], array[None, ..., None], strict=True
    )
    np.testing.assert_array_equal(image_folder(tmp_path)[0], np.repeat(array[None, ..., None], 3, 3))


def test_colours_become_grey_by_their_luma(tmp_path: Path) -> None:
    array = save(tmp_path / "a" / "x.png", pixels(4, 4))
    luma = array.astype(float) @ [0.299, 0.587, 0.114]
    found = image_folder(tmp_path, color_mode="grayscale")[0][0, ..., 0]
    assert np.abs(found - luma).max() <= 1


def test_transparency_is_dropped(tmp_path: Path) -> None:
    array = pixels(3, 3, 4)
    save(tmp_path / "a" / "x.png", array)
    np.testing.assert_array_equal(image_folder(tmp_path)[0][0], array[..., :3])


def test_resizing(tmp_path: Path) -> None:
    save(tmp_path / "a" / "flat.png", np.full((9, 7, 3), 77, np.uint8))
    array = save(tmp_path / "a" / "other.png", pixels(4, 6))
    images, _, _ = image_folder(tmp_path, (8, 12), interpolation="nearest")
    assert images.shape == (2, 8, 12, 3)
    assert (images[0] == 77).all()
    np.testing.assert_array_equal(images[1], array.repeat(2, 0).repeat(2, 1))
    halved = image_folder(tmp_path, (2, 3))[0]
    assert (halved[0] == 77).all() and halved[1].std() < array.std()
    assert image_folder(tmp_path, 5)[0].shape == (2, 5, 5, 3)


def test_sizes_that_differ_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", pixels(3, 3))
    save(tmp_path / "a" / "2.png", pixels(3, 4))
    with pytest.raises(DataError, match=r"a/2.png: expected 3x3 pixels as in \S+a/1.png, found 3x4; give size="):
        image_folder(tmp_path)


def damaged_png(tmp_path: Path) -> bytes:
    save(tmp_path / "whole.png", pixels(30, 30))
    return (tmp_path / "whole.png").read_bytes()


def test_f1_broken_pictures_are_named(tmp_path: Path) -> None:
    whole = damaged_png(tmp_path / "elsewhere")
    size_field = whole.index(b"IHDR") + 4
    header = whole[size_field - 4 : size_field] + b"\x7f\xff\xff\xff" * 2 + whole[size_field + 8 : size_field + 13]
    huge = whole[: size_field - 4] + header + zlib.crc32(header).to_bytes(4, "big") + whole[size_field + 17 :]
    save(tmp_path / "data" / "a" / "1.png", pixels(30, 30))
    broken = tmp_path / "data" / "a" / "2.png"
    for content, message in (
        (b"", "cannot identify image file"),
        (b"<!DOCTYPE html>", "cannot identify image file"),
        (whole[:-400], "truncated|unrecognized"),
        (whole[:200] + bytes(300) + whole[500:], "sound picture, found"),
        (whole[:60], "sound picture, found"),
        (huge, "expected a picture of moderate size, found: Image size"),
        (b"GIF89a" + bytes(50), "cannot identify image file"),
        (b"P6\n30 30\n255\n" + bytes(100), "sound picture, found"),
    ):
        broken.write_bytes(content)
        with pytest.raises(DataError, match=rf"a/2.png: .*({message})") as caught:
            image_folder(tmp_path / "data")
        assert "\n" not in str(caught.value)


def test_more_than_eight_bits_are_not_cut_off(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((3, 3), 40_000, np.uint16)).save(tmp_path / "a" / "x.png")
    with pytest.raises(DataError, match=r"x.png: expected at most 8 bits a channel, found Pillow's mode I"):
        image_folder(tmp_path)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: expected a readable folder, found: No such file"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="expected a folder for each class, found none"):
        image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="a: expected at least one picture, found none"):
        image_folder(tmp_path)
    (tmp_path / "a" / "notes.txt").write_text("")
    with pytest.raises(
        DataError, match=r"notes.txt: expected a picture \(.jpeg, .jpg, .pgm, .png, .ppm\), found another"
    ):
        image_folder(tmp_path)
    (tmp_path / "a" / "notes.txt").unlink()
    (tmp_path / "a" / "b.png").mkdir()
    with pytest.raises(DataError, match="b.png: expected a picture .* found a folder"):
        image_folder(tmp_path)


def test_memory_is_bounded(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", pixels(30, 30))
    with pytest.raises(DataError, match="expected at most 2,699 bytes of images, found 2,700"):
        image_folder(tmp_path, max_bytes=2_699)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color_mode": "cmyk"}, "^image_folder: color_mode must be one of rgb, grayscale, got 'cmyk'"),
        ({"interpolation": "lanczos"}, "^image_folder: interpolation must be one of bilinear, nearest, got 'lanczos'"),
        ({"size": (0, 3)}, "^image_folder: size must be an integer from 1 to"),
        ({"size": (1, 2, 3)}, "^image_folder: size must be an integer or a pair"),
    ],
)
def test_arguments(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_folder(tmp_path, **options)


def test_without_pillow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"^reading pictures needs Pillow \(.*\): pip install 'gpucnn\[images\]'$"):
        image_folder(tmp_path)
