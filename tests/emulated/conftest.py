"""The emulator's own tests need g++."""

from __future__ import annotations

import pytest

from gpucnn.devices.emulated import EmulatedDevice


@pytest.fixture(autouse=True)
def _emulator(request: pytest.FixtureRequest) -> None:
    reason = EmulatedDevice.available()
    if reason is not None:
        pytest.skip(reason)
