"""What tests of `gpucnn check` share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpucnn.devices.emulated import EmulatedDevice


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a folder of its own."""
    if EmulatedDevice.available() is not None:
        pytest.skip(str(EmulatedDevice.available()))
    monkeypatch.chdir(tmp_path)
