"""Forcing a plan for operations whose backend method has no `algorithm` argument."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpucnn.backends import Backend


@pytest.fixture
def forced(
    request: pytest.FixtureRequest, backend_of: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Backend]:
    """Return a function (backend name, operation, plan or None) -> the backend, running the operation by that plan.

    The name "check" is the emulated device's check build.
    """

    def force(name: str, operation: str, plan: str | None) -> Backend:
        backend = request.getfixturevalue("check_backend") if name == "check" else backend_of(name)
        if plan is not None:
            run = backend.launcher.run

            def run_by_plan(what, spec, operands, algorithm=None):
                run(what, spec, operands, plan if what == operation else algorithm)

            monkeypatch.setattr(backend.launcher, "run", run_by_plan)
        return backend

    return force
