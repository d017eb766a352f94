"""The description of one launch: which entry, how many threads, and what its arguments are.

It is a table, in a Python file that assigns it to `launch`, in JSON, or in TOML (Python 3.11 and later):

    entry = "block_sum"          # may be left out where the file has one
    grid = [4]                   # blocks: one to three numbers
    block = 256                  # threads
    shared_bytes = 0             # dynamic shared memory
    arguments.y = {shape = [4]}                       # by the parameter's name; the dtype is the parameter's
    arguments.x = {shape = [1000], fill = "random"}
    arguments.n = 1000
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import runpy
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.devices.emulated.signature import EntryParameter
from gpucnn.errors import DataError

FILLS = ("zeros", "ones", "arange", "random", "nan")
_ARRAY_KEYS = {"dtype", "expected", "file", "fill", "inout", "null", "seed", "shape", "tolerance", "values"}
_MOST_INTEGER = 100


@dataclass(frozen=True)
class Launch:
    """A launch.

    Attributes:
        grid, block: one to three numbers.
        arguments: by the parameters' names: a number for a scalar, a list for a vector such as float2, bytes for a
            structure, and for a pointer an array, a list of values, None,
            or a table of `dtype`, `shape`, `fill` (one of FILLS or a number), `seed` (of "random": standard normal,
            integers from 0 to 99), `values`, `file` (.npy), `inout` (the kernel reads it before it writes it), `null`,
            and what it must hold after the launch: `expected` (values, a number or a .npy file) within `tolerance` of
            its largest value.
        entry: None where the file has one.
        shared_bytes: dynamic shared memory.
        macros: defined before the text.
        ignore: kinds of findings to leave out.
        allow_exit: threads may leave a block while others still use barriers.
        folder: where files are sought.
    """

    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: Mapping[str, Any]
    entry: str | None = None
    shared_bytes: int = 0
    macros: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    allow_exit: bool = False
    folder: Path = Path()


def read_launch(path: Path) -> Launch:
    """Read a description: `.toml`, `.json`, or a `.py` file, which is run.

    Raises:
        DataError: unreadable, or of another kind; TOML before Python 3.11.
        ValueError: the table is wrong; the message names the key.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a launch description, found no such file")
    suffix = path.suffix.lower()
    if suffix == ".py":
        found: Any = _assigned(path)
        if not isinstance(found, Mapping):
            raise DataError(f"{path}: expected a dict named `launch`, found {type(found).__name__}")
    elif suffix == ".json":
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} is not JSON: {error}") from error
    elif suffix == ".toml":
        found = _toml(path)
    else:
        raise DataError(f"{path}: a launch is described in .py, .json or .toml")
    return launch_of(found, path)


def _assigned(path: Path) -> Any:
    """Return what a Python file assigns to `launch`; what it raises becomes one line with its place in the file."""
    try:
        return runpy.run_path(str(path)).get("launch")
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        raise DataError(f"{path}:{line or 1}: {type(error).__name__}: {error}") from error


def _toml(path: Path) -> Any:
    if importlib.util.find_spec("tomllib") is None:
        raise DataError(f"{path}: TOML needs Python 3.11 or later; describe the launch in .json or .py here")
    try:
        return importlib.import_module("tomllib").loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not TOML: {error}") from error


def launch_of(table: Any, path: Path) -> Launch:
    """Return the launch that a table describes; `path` is the file it came from.

    Raises:
        ValueError: a key is unknown, missing or wrong.
    """
    known = {f.name for f in fields(Launch)} - {"folder"}
    if not isinstance(table, Mapping):
        raise ValueError(f"{path}: expected a table, found {type(table).__name__}")
    if unknown := sorted(set(table) - known):
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if missing := sorted({"grid", "block", "arguments"} - set(table)):
        raise ValueError(f"{path}: {missing[0]} is missing")
    arguments, macros = table["arguments"], table.get("macros", {})
    for what, value in (("arguments", arguments), ("macros", macros)):
        if not isinstance(value, Mapping):
            raise ValueError(f"{path}: {what} must be a table by name, got {value!r}")
    ignore = table.get("ignore", ())
    if isinstance(ignore, str) or not all(isinstance(kind, str) for kind in ignore):
        raise ValueError(f"{path}: ignore must be a list of kinds, got {ignore!r}")
    return Launch(
        grid=_sizes(table["grid"], f"{path}: grid"),
        block=_sizes(table["block"], f"{path}: block"),
        arguments=arguments,
        entry=table.get("entry"),
        shared_bytes=_whole(table.get("shared_bytes", 0), f"{path}: shared_bytes"),
        macros={name: str(int(value)) if isinstance(value, bool) else str(value) for name, value in macros.items()},
        ignore=tuple(ignore),
        allow_exit=bool(table.get("allow_exit", False)),
        folder=path.parent,
    )


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{what} must be a whole number of at least 0, got {value!r}")
    return int(value)


def _sizes(value: Any, what: str) -> tuple[int, ...]:
    given = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(given) <= 3:
        raise ValueError(f"{what} must be one to three numbers, got {value!r}")
    return tuple(_whole(n, what) for n in given)


@dataclass(frozen=True)
class Expected:
    """What an argument must hold after the launch, and within which fraction of its largest value."""

    values: np.ndarray
    tolerance: float


def argument_of(launch: Launch, parameter: EntryParameter) -> Any:
    """Return a fresh argument for a parameter.

    Raises:
        ValueError, TypeError: its description does not fit; the message names the parameter.
        DataError: its file cannot be read.
    """
    given = _given(launch, parameter)
    what = f"argument {parameter.name!r}"
    if not parameter.pointer:
        return _scalar(given, parameter, what)
    if given is None or (isinstance(given, Mapping) and given.get("null")):
        return None
    if isinstance(given, np.ndarray):
        return np.array(given, order="C")
    if isinstance(given, (list, tuple)):
        given = {"values": given}
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} is a pointer: describe its array, such as {{'shape': [100]}}, got {given!r}")
    if unknown := sorted(set(given) - _ARRAY_KEYS):
        raise ValueError(f"{what}: unknown key {unknown[0]!r}; known: {', '.join(sorted(_ARRAY_KEYS))}")
    return np.ascontiguousarray(_array(launch, given, _dtype(given, parameter, what), what))


def is_inout(launch: Launch, name: str) -> bool:
    """Say whether the kernel reads an argument before it writes it."""
    given = launch.arguments.get(name)
    return isinstance(given, Mapping) and bool(given.get("inout"))


def expected_of(launch: Launch, parameter: EntryParameter, shape: tuple[int, ...], dtype: Any) -> Expected | None:
    """Return what an argument must hold after the launch, if its description says so.

    Without a tolerance, integers must be equal, and floating numbers within 64 spacings of the largest.

    Raises:
        ValueError: another shape.
        DataError: its file cannot be read.
    """
    given = launch.arguments.get(parameter.name)
    if not isinstance(given, Mapping) or "expected" not in given:
        return None
    what = f"argument {parameter.name!r}: expected"
    values = given["expected"]
    if isinstance(values, str):
        values = _loaded(launch.folder / values)
    values = np.asarray(values)
    if values.ndim and values.size == int(np.prod(shape)):
        values = values.reshape(shape)
    elif values.ndim:
        raise ValueError(f"{what} has shape {values.shape}, the argument {shape}")
    name = np.dtype(dtype).name
    usual = 64 * dtypes.epsilon(name) if name in dtypes.FLOATING else 0.0
    return Expected(np.broadcast_to(values, shape), float(given.get("tolerance", usual)))


def _given(launch: Launch, parameter: EntryParameter) -> Any:
    if parameter.name not in launch.arguments:
        raise ValueError(f"argument {parameter.name!r} ({parameter.spelling}) is not described")
    return launch.arguments[parameter.name]


def _scalar(given: Any, parameter: EntryParameter, what: str) -> Any:
    if parameter.dtype is None:
        if not isinstance(given, (bytes, np.generic)):
            raise ValueError(f"{what} is {parameter.spelling}: give its {parameter.size} bytes in a .py, got {given!r}")
        return given
    elements = parameter.size // parameter.dtype.itemsize
    numbers = "a number" if elements == 1 else f"a list of {elements} numbers"
    try:
        values = np.asarray(given)
    except ValueError:
        values = np.asarray(None)
    if values.dtype.kind not in "fiub" or values.shape != (() if elements == 1 else (elements,)):
        raise ValueError(f"{what} is {parameter.spelling}: give {numbers}, got {given!r}")
    converted = values.astype(parameter.dtype)
    if parameter.dtype.kind in "iu" and (converted.astype(object) != values.astype(object)).any():
        raise ValueError(f"{what} is {parameter.spelling}, which cannot hold {given!r}")
    return converted[()]


def _dtype(given: Mapping[str, Any], parameter: EntryParameter, what: str) -> np.dtype[Any]:
    if "dtype" in given:
        try:
            return dtypes.numpy_dtype(given["dtype"])
        except TypeError as error:
            raise ValueError(f"{what}: {error}") from error
    if parameter.dtype is None:
        raise ValueError(f"{what} is {parameter.spelling}*: give its dtype")
    return parameter.dtype


def _array(launch: Launch, given: Mapping[str, Any], dtype: np.dtype[Any], what: str) -> np.ndarray:
    shape = None if "shape" not in given else _shape(given["shape"], f"{what}: shape")
    if len({"values", "file", "fill"} & set(given)) > 1:
        raise ValueError(f"{what}: give one of values, file and fill")
    if "values" in given or "file" in given:
        values = np.asarray(given["values"]) if "values" in given else _loaded(launch.folder / str(given["file"]))
        array = values.astype(dtype)
        return array if shape is None else array.reshape(shape)
    if shape is None:
        raise ValueError(f"{what}: give its shape, values or file")
    return _filled(given.get("fill", "zeros"), shape, dtype, int(given.get("seed", 0)), what)


def _shape(value: Any, what: str) -> tuple[int, ...]:
    return tuple(_whole(n, what) for n in (value if isinstance(value, (list, tuple)) else [value]))


def _filled(fill: Any, shape: tuple[int, ...], dtype: np.dtype[Any], seed: int, what: str) -> np.ndarray:
    if fill == "arange":
        return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    if fill == "random":
        rng = np.random.default_rng(seed)
        whole = dtype.kind in "iub"
        return (rng.integers(0, _MOST_INTEGER, shape) if whole else rng.standard_normal(shape)).astype(dtype)
    constants = {"zeros": 0, "ones": 1, "nan": np.nan}
    if isinstance(fill, str) and fill not in constants:
        raise ValueError(f"{what}: fill must be a number or one of {', '.join(FILLS)}, got {fill!r}")
    return np.full(shape, constants.get(fill, fill) if isinstance(fill, str) else fill).astype(dtype)


def _loaded(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a NumPy array: {error}") from error
