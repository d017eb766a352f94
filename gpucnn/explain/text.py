"""Explanations as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gpucnn.explain import drawing
from gpucnn.explain.convolution import Convolution
from gpucnn.explain.drawing import number
from gpucnn.explain.pooling import Pooling
from gpucnn.explain.trace import Cell, Position, Term, Trace

Operation = Convolution | Pooling
SOURCE = {"input_gradient": "input", "filter_gradient": "filter", "bias_gradient": "bias"}
"""What each gradient is the gradient of."""
_MOST_STEPS = 64


class Explanation:
    """Writes about one operation in one language.

    Args:
        operation: a Convolution or Pooling.
        phrases: one of `LANGUAGES`.
        dy: the output's gradient; None where only the forward pass is explained.
    """

    def __init__(self, operation: Operation, phrases: Mapping[str, str], dy: np.ndarray | None = None) -> None:
        self._operation = operation
        self._say = phrases
        self._dy = dy

    def heading(self, of: str) -> list[str]:
        """Return the lines that tell the operation, its settings and the size of its output."""
        spec, say = self._operation.spec, self._say
        kind = (
            self._operation.kind if isinstance(self._operation, Pooling) else _CONVOLUTIONS[self._operation.spec.flip]
        )
        lines = [say[kind].format(h=spec.h, w=spec.w, r=spec.r, s=spec.s)]
        if of != "output":
            lines.insert(0, say["backward"].format(what=say[f"of_{SOURCE[of]}"]))
        top, bottom, left, right = spec.pads
        even = top == bottom == left == right
        sides = str(top) if even else say["sides"].format(top=top, bottom=bottom, left=left, right=right)
        lines += [
            say["settings"].format(stride=_pair(spec.stride), padding=sides, dilation=_pair(spec.dilation)),
            self._size("height", spec.h, (top, bottom), spec.r, 0),
            self._size("width", spec.w, (left, right), spec.s, 1),
        ]
        return lines

    def _size(self, axis: str, n: int, sides: tuple[int, int], k: int, at: int) -> str:
        spec = self._operation.spec
        rounding = "ceil" if isinstance(self._operation, Pooling) and self._operation.spec.ceil_mode else "floor"
        return (
            f"{self._say[axis]} = {rounding}(({n} + {sides[0]} + {sides[1]} - {spec.dilation[at]}*({k} - 1) - 1) / "
            f"{spec.stride[at]}) + 1 = {self._operation.output_shape[at]}"
        )

    def window(self, trace: Trace, result: np.ndarray) -> list[str]:
        """Return the lines that trace one element: what takes part, each step, and the result with its place marked."""
        lines = [*self._sources(trace), "", self._introduction(trace)]
        if trace.terms:
            lines += self._steps(trace)
            lines += self._choice(trace)
        whole = self._result(trace, f"{self._formula(trace, _words(trace))} = ")
        lines += ["", whole if drawing.columns_of(whole) <= drawing.WIDTH else self._result(trace), ""]
        return lines + self._matrix(trace.of, result, {trace.position})

    def line(self, trace: Trace) -> str:
        """Return one element in a line: its place and the sum that makes it."""
        start, end = f"{_place(trace.position)} = ", f" = {number(trace.value)}"
        if trace.chosen is not None:
            end += f"  <- {_place(trace.terms[trace.chosen].left.position)}"
        return f"{start}{self._shortened(trace, drawing.WIDTH - len(start) - len(end))}{end}"

    def title(self, of: str) -> str:
        """Return what a matrix is called."""
        return self._say[of]

    def agreement(self, backend: str, difference: float) -> str:
        """Return the line that says that a backend computes the same."""
        return self._say["agrees"].format(backend=backend, difference=number(difference))

    def _sources(self, trace: Trace) -> list[str]:
        """Return the matrices that an element is made of, what takes part in brackets."""
        used = [cell for term in trace.terms for cell in (term.left, term.right) if cell is not None]
        names = _SOURCES[trace.of]
        if isinstance(self._operation, Pooling):
            names = ("input",) if trace.of == "output" else ("output_gradient", "input")
        held = {"input": self._operation.image, "output_gradient": self._dy}
        if isinstance(self._operation, Convolution):
            held["filter"] = self._operation.weight
        blocks = []
        for name in names:
            values = held.get(name)
            if values is not None:
                marked = {cell.position for cell in used if cell.of == name and cell.position is not None}
                if isinstance(self._operation, Pooling) and trace.of == "input_gradient" and name == "input":
                    marked = {trace.position}
                if trace.of == "output" and name == "filter":
                    marked = set()
                blocks.append(self._matrix(name, values, marked))
        padded = trace.of in ("output", "filter_gradient") and any(self._operation.spec.pads)
        return [*drawing.side_by_side(*blocks), self._say["legend_padding" if padded else "legend"]]

    def _matrix(self, name: str, values: np.ndarray, marked: Iterable[Position]) -> list[str]:
        def cropped(top: int, bottom: int, left: int, right: int) -> str:
            rows, columns = values.shape
            return self._say["shown"].format(top=top, bottom=bottom, left=left, right=right, rows=rows, columns=columns)

        pads = self._operation.spec.pads if name == "input" else (0, 0, 0, 0)
        return [self._say[name], *drawing.matrix(values, set(marked), pads, cropped)]

    def _introduction(self, trace: Trace) -> str:
        kind = self._operation.kind if isinstance(self._operation, Pooling) else ""
        if not trace.terms:
            return self._say["unread"]
        if trace.of == "output":
            key = f"steps_{kind}" if kind else "steps"
        else:
            key = f"steps_{kind}_input" if kind else f"steps_{SOURCE[trace.of]}"
        return self._say[key].format(position=_place(trace.position), divisor=trace.divisor, count=len(trace.terms))

    def _steps(self, trace: Trace) -> list[str]:
        """Return the table of the terms, the middle of a long one left out."""
        say, first = self._say, trace.terms[0]
        head: tuple[str, ...]
        rows: list[tuple[str, ...]]
        if trace.chosen is not None:
            head, rights = (say["input"], "", ""), {1}
            rows = [self._candidate(trace, i) for i in range(len(trace.terms))]
        elif first.right is None:
            head, rights = (say[first.left.of], "", say["sum"]), {1, 2}
            rows = [(_place(t.left.position), number(t.left.value), number(t.total)) for t in trace.terms]
        else:
            head = (say[first.left.of], "", "", say[first.right.of], "", "", say["product"], say["sum"], "")
            rights = {1, 4, 6, 7}
            rows = [self._product(term, term.right) for term in trace.terms if term.right is not None]
        lines = drawing.table([head, *rows], rights)
        left_out = len(rows) - _MOST_STEPS
        return lines if left_out <= 0 else [*lines[: _MOST_STEPS - 7], f"  ... ({left_out})", *lines[-8:]]

    def _product(self, term: Term, second: Cell) -> tuple[str, ...]:
        outside = self._say["padding"] if term.left.padding or second.padding else ""
        return (
            _place(term.left.position), number(term.left.value), "*", _place(second.position), number(second.value),
            "=", number(term.product), number(term.total), outside,
        )  # fmt: skip

    def _candidate(self, trace: Trace, at: int) -> tuple[str, ...]:
        cell = trace.terms[at].left
        return _place(cell.position), number(cell.value), self._say["chosen"] if at == trace.chosen else ""

    def _choice(self, trace: Trace) -> list[str]:
        """Return the lines about ties, and about where a pooled gradient goes."""
        if not isinstance(self._operation, Pooling) or trace.of != "output":
            return []
        say, place, lines = self._say, _place(trace.position), [""]
        chosen = "" if trace.chosen is None else _place(trace.terms[trace.chosen].left.position)
        if chosen:
            ties = self._operation.ties(trace)
            if len(ties) > 1:
                lines += [say["ties"].format(positions=_list(ties)), say["tie_rule"]]
            lines.append(say["routed"].format(position=place, chosen=chosen))
        else:
            lines.append(say["shared"].format(position=place, divisor=trace.divisor))
        if self._dy is not None:
            gradient = float(self._dy[trace.position])
            key, value = ("routed_value", gradient) if chosen else ("shared_value", gradient / trace.divisor)
            lines.append(say[key].format(gradient=number(gradient), chosen=chosen, value=number(value)))
        return lines

    def _result(self, trace: Trace, formula: str = "") -> str:
        place = "" if trace.of == "bias_gradient" else f" {_place(trace.position)}"
        return f"{self._say[trace.of]}{place} = {formula}{number(trace.value)}"

    def _formula(self, trace: Trace, words: list[str]) -> str:
        if trace.chosen is not None and isinstance(self._operation, Pooling):
            return f"{self._operation.kind}({', '.join(words)})"
        total = " + ".join(words) or "0"
        return total if trace.divisor == 1 else f"({total}) / {trace.divisor}"

    def _shortened(self, trace: Trace, most: int) -> str:
        """Return the formula, its middle left out where it would be longer than `most`."""
        words = _words(trace)
        full, keep = self._formula(trace, words), len(words)
        while len(full) > most and keep > 2:
            keep -= 1
            full = self._formula(trace, [*words[: keep // 2], "...", *words[len(words) - (keep - keep // 2) :]])
        return full


_SOURCES: Mapping[str, tuple[str, ...]] = {
    "output": ("input", "filter"),
    "input_gradient": ("output_gradient", "filter"),
    "filter_gradient": ("output_gradient", "input"),
    "bias_gradient": ("output_gradient",),
}
"""Of what a convolution's matrices are made."""
_CONVOLUTIONS = {False: "correlation", True: "flipped"}


def _place(position: Position | None) -> str:
    return "" if position is None else f"({position[0]}, {position[1]})"


def _list(positions: Sequence[Position]) -> str:
    """Return positions in a list, its middle left out where it is long."""
    most = 6
    if len(positions) <= most:
        return ", ".join(map(_place, positions))
    return ", ".join([*map(_place, positions[: most - 1]), "...", _place(positions[-1])])


def _pair(sizes: tuple[int, int]) -> str:
    return str(sizes[0]) if sizes[0] == sizes[1] else f"{sizes[0]}x{sizes[1]}"


def _words(trace: Trace) -> list[str]:
    """Return the terms as they stand in a formula."""
    return [
        _signed(term.left.value) if term.right is None else f"{_signed(term.left.value)}*{_signed(term.right.value)}"
        for term in trace.terms
    ]


def _signed(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)
