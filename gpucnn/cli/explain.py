"""`gpucnn explain`: one window of a convolution or pooling, step by step."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
import numpy as np
from click.core import ParameterSource

from gpucnn.backends import get_backend
from gpucnn.cli.options import backend_option
from gpucnn.explain import EXAMPLES, LANGUAGES, Convolution, Pooling, Trace, read_matrix
from gpucnn.explain.text import Explanation

F = TypeVar("F", bound=Callable[..., Any])
POOLINGS = ("max", "average", "min")


def _sizes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Read one number, or two with an x or a comma between: rows and columns."""
    if value is None:
        return None
    if not re.fullmatch(r"\d+([x,]\d+)?", value):
        raise click.BadParameter(f"{value!r} is neither a number nor two, such as 2 or 2x1")
    sizes = tuple(int(word) for word in re.split("[x,]", value))
    return sizes[0] if len(sizes) == 1 else sizes


def _sides(ctx: click.Context, parameter: click.Parameter, value: str) -> Any:
    """Read sizes, `same` or `valid`, or the four sides."""
    if value in ("same", "valid"):
        return value
    sides = value.split(",")
    if len(sides) == 4 and all(side.isdigit() for side in sides):
        top, bottom, left, right = map(int, sides)
        return (top, bottom), (left, right)
    return _sizes(ctx, parameter, value)


def _place(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """Read row and column."""
    if not re.fullmatch(r"\d+,\d+", value):
        raise click.BadParameter(f"{value!r} is no row,column such as 0,1")
    row, column = value.split(",")
    return int(row), int(column)


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_INPUT = click.option("--input", "image", help='Matrix: "1,0,1;0,1,0" or a .npy, .csv or .txt file; one row is 1-D.')
_FILTER = click.option("--filter", "weight", help="Matrix, written as --input.")
_WINDOW = click.option("--window", callback=_sizes, default="2", show_default=True, help="Of the pooling: 2 or 2x3.")
_GRADIENT = click.option("--output-gradient", "gradient", help="Matrix of the output's size, written as --input.")
_DILATION = click.option("--dilation", callback=_sizes, default="1", show_default=True, help="Between taps: 2 or 2x1.")
_FLIP = click.option("--flip", is_flag=True, help="The mathematical convolution, its filter turned by 180 degrees.")
_PADDING = click.option(
    "--padding", callback=_sides, default="0", show_default=True,
    help="Pixels: 1, 1x2, same, valid, or top,bottom,left,right.",
)  # fmt: skip
_EXAMPLE = click.option("--example", type=click.Choice(list(EXAMPLES)), help="Matrices to take where none are given.")
_COMMON = _options(
    click.option("--position", callback=_place, default="0,0", show_default=True, help="Which element: row,column."),
    click.option("--all", "every", is_flag=True, help="A line for each element instead of one traced."),
    click.option("--lang", type=click.Choice(list(LANGUAGES)), default="en", show_default=True, help="Language."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    backend_option,
)


def _stride(default: str | None) -> Callable[[F], F]:
    what = "Step of the window: 2 or 2x1." + ("" if default else "  [default: 1, or the window of a pooling]")
    return click.option("--stride", callback=_sizes, default=default, show_default=default is not None, help=what)


@click.group(name="explain")
def command() -> None:
    """Trace one window step by step: its elements, their products and sum, and where gradients go.

    Each number is computed by the definition and must equal what the backend computes.
    """


@command.command(name="conv")
@_options(_INPUT, _FILTER, _EXAMPLE, _stride("1"), _PADDING, _DILATION, _FLIP, _COMMON)
def conv(image: str | None, weight: str | None, example: str | None, stride: Any, padding: Any, dilation: Any,
         flip: bool, position: Any, every: bool, lang: str, as_json: bool) -> None:  # fmt: skip
    """Trace a convolution: a window of the input, times the filter, added up."""
    matrices = EXAMPLES[example or "image"]
    operation = Convolution(
        read_matrix(matrices.input if image is None else image, "--input"), _filter(weight, matrices.filter),
        stride=stride, padding=padding, dilation=dilation, flip=flip,
    )  # fmt: skip
    _explain(operation, "output", None, position, every, lang, as_json)


@command.command(name="pool")
@_options(
    click.option("--kind", type=click.Choice(POOLINGS), default="max", show_default=True, help="What to take."),
    _INPUT, _EXAMPLE, _WINDOW, _stride(None), _PADDING, _DILATION, _GRADIENT,
    click.option("--ceil-mode", is_flag=True, help="Keep a last window that ends outside."),
    click.option("--exclude-padding", is_flag=True, help="Averages divide by the pixels within the input."),
    _COMMON,
)  # fmt: skip
def pool(kind: str, image: str | None, example: str | None, window: Any, stride: Any, padding: Any, dilation: Any,
         gradient: str | None, ceil_mode: bool, exclude_padding: bool, position: Any, every: bool, lang: str,
         as_json: bool) -> None:  # fmt: skip
    """Trace a pooling: a window, what becomes of it, and where its gradient goes."""
    operation = _pooling(kind, image, EXAMPLES[example or "pooling"].input, window, stride=stride, padding=padding,
                         dilation=dilation, ceil_mode=ceil_mode, count_include_pad=not exclude_padding)  # fmt: skip
    dy = None if gradient is None else _gradient(gradient, operation.output_shape)
    _explain(operation, "output", dy, position, every, lang, as_json)


@command.command(name="backward")
@_options(
    click.option(
        "--kind", type=click.Choice(["conv", *POOLINGS]), default="conv", show_default=True, help="Which operation."
    ),
    click.option(
        "--of", type=click.Choice(["input", "filter", "bias"]), default="input", show_default=True,
        help="Whose gradient; poolings have that of the input alone.",
    ),
    _INPUT, _FILTER, _EXAMPLE, _WINDOW, _stride(None), _PADDING, _DILATION, _FLIP, _GRADIENT, _COMMON,
)  # fmt: skip
def backward(kind: str, of: str, image: str | None, weight: str | None, example: str | None, window: Any, stride: Any,
             padding: Any, dilation: Any, flip: bool, gradient: str | None, position: Any, every: bool, lang: str,
             as_json: bool) -> None:  # fmt: skip
    """Trace the backward pass: which output gradients reach an element, and with which factor.

    Without --output-gradient, the example's where it fits, else ones.
    """
    matrices = EXAMPLES[example or ("image" if kind == "conv" else "pooling")]
    operation: Convolution | Pooling
    if kind == "conv":
        if click.get_current_context().get_parameter_source("window") is not ParameterSource.DEFAULT:
            raise click.UsageError("--window goes with poolings; a convolution's is its --filter")
        operation = Convolution(
            read_matrix(matrices.input if image is None else image, "--input"), _filter(weight, matrices.filter),
            stride=1 if stride is None else stride, padding=padding, dilation=dilation, flip=flip,
        )  # fmt: skip
    else:
        if of != "input" or weight is not None or flip:
            raise click.UsageError(f"--kind {kind} has no filter: --of filter|bias, --filter and --flip go with conv")
        operation = _pooling(kind, image, matrices.input, window, stride=stride, padding=padding, dilation=dilation)
    shape = operation.output_shape
    if gradient is None:
        fitting = read_matrix(matrices.output_gradient, "example")
        dy = fitting if fitting.shape == shape else np.ones(shape)
    else:
        dy = _gradient(gradient, shape)
    _explain(operation, f"{of}_gradient", dy, position, every, lang, as_json)


def _filter(given: str | None, example: str) -> np.ndarray:
    if given is None and not example:
        raise click.UsageError("this example has no filter: give --filter")
    return read_matrix(example if given is None else given, "--filter")


def _pooling(kind: str, image: str | None, example: str, window: Any, **settings: Any) -> Pooling:
    return Pooling(kind, read_matrix(example if image is None else image, "--input"), window, **settings)


def _gradient(given: str, shape: tuple[int, int]) -> np.ndarray:
    dy = read_matrix(given, "--output-gradient")
    if dy.shape != shape:
        raise click.UsageError(f"--output-gradient must have the output's size {shape}, got {dy.shape}")
    return dy


def _tracer(operation: Convolution | Pooling, of: str, dy: np.ndarray | None) -> Callable[[tuple[int, int]], Trace]:
    if of == "output" or dy is None:
        return operation.output
    if isinstance(operation, Pooling) or of == "input_gradient":
        return lambda position: operation.input_gradient(position, dy)
    if of == "filter_gradient":
        return lambda position: operation.filter_gradient(position, dy)
    return lambda position: operation.bias_gradient(dy)


def _explain(operation: Convolution | Pooling, of: str, dy: np.ndarray | None, position: tuple[int, int], every: bool,
             lang: str, as_json: bool) -> None:  # fmt: skip
    """Trace, compare with the backend in use, and print."""
    backend = get_backend()
    result = operation.computed(backend, of, dy)
    if any(at >= size for at, size in zip(position, result.shape, strict=True)):
        raise click.UsageError(f"--position {position[0]},{position[1]} is outside the {of} of size {result.shape}")
    places: Iterable[tuple[int, int]] = np.ndindex(*result.shape) if every else [position]
    trace = _tracer(operation, of, dy)
    traces = [trace(place) for place in places]
    difference = max(operation.check(found, result, backend) for found in traces)
    if as_json:
        click.echo(json.dumps(_described(operation, of, dy, traces, result, backend.name, difference)))
        return
    writer = Explanation(operation, LANGUAGES[lang], dy)
    lines = [*writer.heading(of), ""]
    if every:
        lines += [f"{writer.title(of)}:", *map(writer.line, traces)]
    else:
        lines += writer.window(traces[0], result)
    click.echo("\n".join([*lines, "", writer.agreement(backend.name, difference)]))


def _described(operation: Convolution | Pooling, of: str, dy: np.ndarray | None, traces: list[Trace],
               result: np.ndarray, backend: str, difference: float) -> dict[str, Any]:  # fmt: skip
    spec = operation.spec
    described: dict[str, Any] = {
        "operation": operation.kind if isinstance(operation, Pooling) else "conv",
        "of": of,
        "stride": list(spec.stride),
        "padding": list(spec.pads),
        "dilation": list(spec.dilation),
        "input": operation.image.tolist(),
    }
    if isinstance(operation, Pooling):
        described["window"] = [spec.r, spec.s]
    else:
        described |= {"filter": operation.weight.tolist(), "flip": operation.spec.flip}
    if dy is not None:
        described["output_gradient"] = dy.tolist()
    return described | {
        "traces": [trace.as_json() for trace in traces],
        "result": result.tolist(),
        "backend": backend,
        "largest_difference": difference,
    }
