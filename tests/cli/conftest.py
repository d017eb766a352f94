"""What tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpucnn import backends
from gpucnn.datasets import digits, write_idx

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    """A folder with MNIST's file names that holds a few drawn digits."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    (x_train, y_train), (x_test, y_test) = digits.load_data(train=300, test=100)
    for name, array in zip(FILES, (x_train, y_train, x_test, y_test), strict=True):
        write_idx(folder / name, array)
    return folder


@pytest.fixture(autouse=True)
def restored_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """--backend is process-wide: put it back."""
    monkeypatch.setattr(backends, "_process", None)


@pytest.fixture(autouse=True)
def without_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than most trainings here: only tests that ask for `pictures` draw them."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("gpucnn.cli.pictures.available", lambda: False)


@pytest.fixture
def pictures() -> None:
    """Have `gpucnn train` draw its pictures, where matplotlib is installed."""
    pytest.importorskip("matplotlib")
