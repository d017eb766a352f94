"""What tests of data sets share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpucnn.datasets import fetch


@pytest.fixture(autouse=True)
def no_data_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets are where a test puts them, or on its own server, which speaks http."""
    monkeypatch.delenv("GPUCNN_DATA_DIR", raising=False)
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "SCHEMES", frozenset({"http"}))
