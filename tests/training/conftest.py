"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from checkpoint_files import NAME, fit

import gpucnn


@pytest.fixture
def on_numpy() -> Iterator[None]:
    """The NumPy backend, in use while the test runs."""
    with gpucnn.use_backend("numpy"):
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a checkpoint."""
    path = tmp_path_factory.mktemp("whole") / NAME
    with gpucnn.use_backend("numpy"):
        fit(path)
    return path.read_bytes()
