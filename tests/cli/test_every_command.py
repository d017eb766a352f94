"""What every command has in common, tested by walking over all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import gpucnn
from gpucnn.cli import main
from gpucnn.datasets import digits, fetch
from gpucnn.devices import nvrtc
from gpucnn.devices.emulated import EmulatedDevice
from gpucnn.errors import DeviceError

Path_ = tuple[str, ...]


def walk(command: click.Command, path: Path_ = ()) -> Iterator[tuple[Path_, click.Command]]:
    """Yield every command with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(inner, (*path, name))


ALL = dict(walk(main))
LEAVES = {path: command for path, command in ALL.items() if not isinstance(command, click.Group)}


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], env=env)


def flags(command: click.Command) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts}


# -- help -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_tells_of_every_option(path):
    for flag in ("--help", "-h"):
        shown = run(*path, flag)
        assert shown.exit_code == 0 and shown.stderr == ""
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"Usage: {' '.join(['main', *path])}") and max(map(len, lines)) <= 80
    assert "..." not in shown.stdout.partition("\nCommands:\n")[2], "a command's short help is cut off"
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts} has no help"
        else:
            assert parameter.make_metavar(click.Context(ALL[path])).strip("[].") in lines[0]
    assert lines[2].strip()[-1] in ".:," or lines[3], "what it does"


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_wrong_usage_is_exit_code_2(path):
    shown = run(*path, "--no-such-option")
    assert shown.exit_code == 2 and shown.stdout == ""
    assert "Error: No such option" in shown.stderr and shown.stderr.startswith("Usage: ")


# -- the environment --------------------------------------------------------------------------------------------------
SHARED = {"--backend": "GPUCNN_BACKEND", "--data-dir": "GPUCNN_DATA_DIR"}


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_option_has_a_variable_named_after_it(path):
    for parameter in LEAVES[path].params:
        if isinstance(parameter, click.Option):
            flag = max(parameter.opts, key=len)
            own = "_".join(["GPUCNN", *path, flag.lstrip("-")]).replace("-", "_").upper()
            assert parameter.envvar in (own, SHARED.get(flag)), flag


# -- running ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Example:
    """How to call a command in a folder with `model`, `mnist`, `k.cu` and `x.npy`.

    Attributes:
        works: arguments; None where it needs what a test has not.
        fails: arguments that are right in form, after `breaking`.
        says: part of the error.
        breaking: what else makes it fail.
        needs: returns why it cannot run here, or None.
    """

    fails: tuple[str, ...]
    says: str
    works: tuple[str, ...] | None = None
    breaking: Callable[[pytest.MonkeyPatch], None] = lambda patch: None
    needs: Callable[[], str | None] = lambda: None


def _raise(*_: object) -> None:
    raise DeviceError("broken\non two lines")


EXAMPLES: dict[Path_, Example] = {
    ("train",): Example(
        ("--data-dir", "nowhere", "--backend", "numpy"), "nowhere",
        ("--data-dir", "mnist", "--backend", "numpy", "--epochs", "0", "--run-dir", "run"),
    ),
    ("evaluate",): Example(
        ("k.cu",), "cannot read weights from k.cu", ("model", "--data-dir", "mnist", "--dataset", "mnist")
    ),
    ("predict",): Example(("model", "k.cu"), "k.cu: expected IDX", ("model", "x.npy")),
    ("summary",): Example(("nothing",), "'nothing' is neither a model", ("lenet5",)),
    ("data", "list"): Example((), "broken", (), lambda patch: patch.setattr("gpucnn.cli.data._row", _raise)),
    ("data", "verify"): Example(("--data-dir", "nowhere"), "no data set was found in nowhere", ("--data-dir", "mnist")),
    ("data", "download"): Example(
        ("mnist", "--data-dir", "new"), "was served by no mirror",
        breaking=lambda patch: patch.setattr(fetch, "SCHEMES", frozenset({"file"})),
    ),
    ("explain", "conv"): Example(("--stride", "0"), "conv2d: stride must be an integer", ()),
    ("explain", "pool"): Example(("--window", "9"), "a window of 9 with dilation 1 does not fit", ()),
    ("explain", "backward"): Example(("--input", "1,2;3"), "--input: rows must have one length", ()),
    ("compare",): Example(
        ("nothing",), "'nothing' is neither a model", ("lenet5", "--batch-size", "1"), needs=EmulatedDevice.available
    ),
    ("check",): Example(
        ("missing.cu",), "missing.cu: expected a kernel file", ("k.cu", "--arch", "sm_90"), needs=nvrtc.available
    ),
    ("kernels",): Example(
        (), "broken on two lines", ("--plans", "--batch-size", "1"),
        lambda patch: patch.setattr("gpucnn.cli.kernels.report", _raise),
    ),
    ("bench",): Example(
        ("step", "--tiny"), "backend 'cuda' is not available: broken",
        breaking=lambda patch: patch.setattr("gpucnn.backends.available", lambda name: "broken"),
    ),
    ("info",): Example((), "broken", (), lambda patch: patch.setattr("gpucnn.cli.info.kernel_directory", _raise)),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gpucnn.use_backend("numpy"):
        gpucnn.zoo.lenet5().save(tmp_path / "model")
    (tmp_path / "k.cu").write_text("__global__ void k(float* y) { y[threadIdx.x] = 1; }\n")
    (_, _), (images, _) = digits.load_data(train=10, test=10)
    np.save(tmp_path / "x.npy", images[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPUCNN_BACKEND", "numpy")


def test_every_command_has_an_example():
    assert EXAMPLES.keys() == LEAVES.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=" ".join)
def test_an_error_is_one_line_and_exit_code_1(path, folder, monkeypatch):
    example = EXAMPLES[path]
    example.breaking(monkeypatch)
    shown = run(*path, *example.fails)
    assert shown.exit_code == 1, shown.output
    said = shown.stderr.strip().splitlines()
    assert said[-1].startswith("Error: ") and example.says in said[-1] and "Traceback" not in shown.stderr
    assert len(said) == 1 and shown.stdout == ""
    assert isinstance(run("--traceback", *path, *example.fails).exception, Exception)
    assert not isinstance(run("--traceback", *path, *example.fails).exception, SystemExit)


WORKING = [path for path, example in EXAMPLES.items() if example.works is not None]


@pytest.mark.parametrize("path", WORKING, ids=" ".join)
def test_results_go_to_stdout_logs_to_stderr_and_json_alone_is_json(path, folder):
    example = EXAMPLES[path]
    if reason := example.needs():
        pytest.skip(reason)
    good = {0, 1} if path == ("data", "verify") else {0}  # it finds the digits not to be those published
    plain, logged = run(*path, *example.works), run("--verbose", *path, *example.works)
    assert plain.exit_code in good, plain.output
    assert plain.stdout.strip() and "gpucnn: " not in plain.stdout + logged.stdout
    if "--json" not in flags(LEAVES[path]):
        assert path == ("train",), "its results are files"
        return
    asked = run(*path, *example.works, "--json")
    assert asked.exit_code == plain.exit_code and asked.stderr == ""
    assert isinstance(json.loads(asked.stdout), (dict, list)) and len(asked.stdout.splitlines()) == 1
    variable = "_".join(["GPUCNN", *path, "JSON"]).upper()
    assert run(*path, *example.works, env={variable: "1"}).stdout[:1] == asked.stdout[:1] in ("[", "{")


def test_an_interruption_is_exit_code_130(folder, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpucnn.cli.info.facts", interrupted)
    shown = run("info")
    assert shown.exit_code == 130 and shown.stderr == "interrupted\n" and shown.stdout == ""
