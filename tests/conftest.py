"""Backends for the tests: numpy always, emulated where g++ is, cuda where a GPU is.

--require-gpu turns a missing GPU into a failure; --all-cases runs the whole product of cases, not a covering set;
--all-defects plants every defect of tests/planted, not one of each kind.
"""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import pytest

from gpucnn import backends
from gpucnn.backends import Backend
from gpucnn.devices import nvrtc, sass
from gpucnn.errors import DeviceError

os.environ.setdefault("GPUCNN_TUNE", "off")  # plans are what the tests say, on every machine
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-cases", action="store_true", help="run the whole product of cases, candidates and dtypes")
    parser.addoption("--all-defects", action="store_true", help="plant every defect of tests/planted (takes hours)")
    parser.addoption("--require-gpu", action="store_true", help="fail instead of skip when there is no GPU")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what collecting tests makes, tens of thousands of rows that live to the end, out of garbage collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the rows beyond the covering set out (they would drown the report as skips), unless asked for."""
    beyond = [name for name in ("all_cases", "all_defects") if not config.getoption(f"--{name.replace('_', '-')}")]
    dropped = [item for item in items if any(item.get_closest_marker(name) for name in beyond)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        left_out = set(dropped)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skipped tests by reason: one line each, however many rows have it."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")


@cache
def missing(name: str) -> str | None:
    """Return why a backend does not work here, None where it does; asked once, because thousands of rows need it."""
    return backends.available(name)


def usable(name: str, config: pytest.Config) -> Backend:
    """Return a backend, or skip (fail with --require-gpu for cuda) with the reason why it does not work here."""
    reason = missing(name)
    if reason is not None:
        if name == "cuda" and config.getoption("--require-gpu"):
            pytest.fail(f"--require-gpu: {reason}")
        pytest.skip(f"{name}: {reason}")
    try:
        return backends.get_backend(name)
    except DeviceError as error:
        pytest.fail(str(error))


@pytest.fixture
def backend_of(request: pytest.FixtureRequest):
    """Return a function from a backend's name to the backend; it skips where that backend does not work."""
    return lambda name: usable(name, request.config)


@pytest.fixture(params=["numpy", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend in turn, in use while the test runs."""
    chosen = usable(request.param, request.config)
    with backends.use_backend(request.param):
        yield chosen


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def capturing(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend that captures steps as graphs, in use while the test runs."""
    chosen = usable(request.param, request.config)
    with backends.use_backend(request.param):
        yield chosen


@pytest.fixture(scope="session")
def check_backend(request: pytest.FixtureRequest) -> Backend:
    """The emulated device's check build: every launch is checked for races, bounds and uninitialised reads."""
    usable("emulated", request.config)
    from gpucnn.backends.kernel_backend import KernelBackend
    from gpucnn.devices.emulated import EmulatedDevice

    return KernelBackend(EmulatedDevice(build="check"))


@pytest.fixture(scope="session")
def disassembler() -> None:
    """Skips where machine code cannot be had: it takes NVRTC and NVIDIA's disassembler, and no GPU."""
    for reason in (nvrtc.available(), sass.available()):
        if reason is not None:
            pytest.skip(reason)


@pytest.fixture
def mnist_directory() -> Path:
    """The folder of the real MNIST files: GPUCNN_DATA_DIR, or ../shared/data/mnist; skips where neither exists."""
    for folder in (Path(os.environ.get("GPUCNN_DATA_DIR", "/nonexistent")), SHARED / "data" / "mnist"):
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            return folder
    pytest.skip("MNIST is not here: set GPUCNN_DATA_DIR")
