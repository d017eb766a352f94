"""An empty folder for what tuning finds."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder for tuning results; compiled modules stay where they are."""
    monkeypatch.setattr("gpucnn.backends.tuning.outcome_cache.cache_directory", lambda: tmp_path)
    return tmp_path
