"""The step-by-step definition: the worked examples, and what a backend computes at every position."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest

from gpucnn import explain
from gpucnn.backends import get_backend
from gpucnn.errors import DataError, KernelError
from gpucnn.explain import EXAMPLES, LANGUAGES, Convolution, Pooling, read_matrix
from gpucnn.explain.drawing import columns_of, matrix, number, side_by_side
from gpucnn.explain.text import Explanation

ONES = np.ones((3, 3))


def seed_convolution(name: str = "image", **settings: Any) -> Convolution:
    example = EXAMPLES[name]
    return Convolution(read_matrix(example.input, "input"), read_matrix(example.filter, "filter"), **settings)


def whole(trace: Any, shape: tuple[int, int]) -> list[list[float]]:
    return [[trace((i, j)).value for j in range(shape[1])] for i in range(shape[0])]


# -- worked examples --------------------------------------------------------------------------------------------------
def test_a2_1_forward():
    """SEED ERROR 004: the seed prints the first row as 4 3 3; the right value is 4 3 4."""
    operation = seed_convolution()
    assert whole(operation.output, (3, 3)) == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]
    first = operation.output((0, 0))
    assert [term.product for term in first.terms] == [1, 0, 1, 0, 1, 0, 0, 0, 1]
    assert [term.total for term in first.terms] == [1, 1, 2, 2, 3, 3, 3, 3, 4]
    assert first.terms[5].left.position == (1, 2) and first.terms[5].right.position == (1, 2)
    assert whole(seed_convolution("asymmetric").output, (3, 3)) == [[7, 7, 5], [5, 7, 4], [3, 3, 4]]
    assert whole(seed_convolution("asymmetric", flip=True).output, (3, 3)) == [[5, 7, 7], [1, 7, 6], [3, 3, 4]]


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"stride": 2}, [[4, 4], [2, 4]]),
        ({"padding": 1}, [[2, 2, 3, 1, 1], [1, 4, 3, 4, 1], [1, 2, 4, 3, 3], [1, 2, 3, 4, 1], [0, 2, 2, 1, 1]]),
        ({"stride": 2, "padding": 1}, [[2, 3, 1], [1, 4, 3], [0, 2, 1]]),
        ({"dilation": 2}, [[2]]),
        ({"dilation": 2, "padding": 1}, [[2, 1, 1], [0, 2, 3], [1, 1, 2]]),
    ],
)
def test_a2_1_settings(settings, rows):
    operation = seed_convolution(**settings)
    assert operation.output_shape == (len(rows), len(rows[0]))
    assert whole(operation.output, operation.output_shape) == rows


def test_a2_1_backward():
    operation = seed_convolution()
    dx = [[1, 1, 2, 1, 1], [1, 2, 3, 2, 1], [2, 3, 5, 3, 2], [1, 2, 3, 2, 1], [1, 1, 2, 1, 1]]
    assert whole(lambda p: operation.input_gradient(p, ONES), (5, 5)) == dx
    assert whole(lambda p: operation.filter_gradient(p, ONES), (3, 3)) == [[6, 7, 6], [4, 7, 7], [4, 6, 6]]
    dy = np.arange(1.0, 10).reshape(3, 3)
    dx = [[1, 2, 4, 2, 3], [4, 6, 12, 8, 6], [8, 14, 25, 16, 12], [4, 12, 18, 14, 6], [7, 8, 16, 8, 9]]
    assert whole(lambda p: operation.input_gradient(p, dy), (5, 5)) == dx
    assert whole(lambda p: operation.filter_gradient(p, dy), (3, 3)) == [[26, 35, 34], [20, 34, 33], [26, 31, 22]]
    assert operation.bias_gradient(dy).value == 45


def test_a2_3_a_sequence_and_its_backward_pass():
    operation, dy = seed_convolution("sequence"), np.array([[1.0, 10, 100]])
    assert whole(operation.output, (1, 3)) == [[140, 200, 260]]
    assert whole(lambda p: operation.input_gradient(p, dy), (1, 5)) == [[10, 120, 1230, 2300, 3000]]
    assert whole(lambda p: operation.filter_gradient(p, dy), (1, 3)) == [[321, 432, 543]]
    third = operation.input_gradient((0, 2), dy)  # dX3 = d1*W3 + d2*W2 + d3*W1
    assert [(t.left.position, t.right.position) for t in third.terms] == [
        ((0, 0), (0, 2)), ((0, 1), (0, 1)), ((0, 2), (0, 0)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "stride", "rows"),
    [
        ("max", 2, [[6, 8], [3, 4]]),
        ("average", 2, [[3.25, 5.25], [2, 2]]),
        ("min", 2, [[1, 2], [1, 0]]),
        ("max", 1, [[6, 7, 8], [6, 7, 8], [3, 3, 4]]),
        ("average", 1, [[3.25, 4, 5.25], [4, 4, 4], [2, 2, 2]]),
        ("min", 1, [[1, 1, 2], [2, 1, 0], [1, 1, 0]]),
    ],
)
def test_a2_4_pooling(kind, stride, rows):
    operation = Pooling(kind, read_matrix(EXAMPLES["pooling"].input, "input"), 2, stride=stride)
    assert whole(operation.output, operation.output_shape) == rows


def test_a2_4_backward():
    image, dy = read_matrix(EXAMPLES["pooling"].input, "input"), np.array([[1.0, 2], [3, 4]])
    largest = Pooling("max", image, 2)
    assert whole(lambda p: largest.input_gradient(p, dy), (4, 4)) == [[0] * 4, [0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 0, 4]]
    average = Pooling("average", image, 2)
    quarters = [[0.25, 0.25, 0.5, 0.5]] * 2 + [[0.75, 0.75, 1, 1]] * 2
    assert whole(lambda p: average.input_gradient(p, dy), (4, 4)) == quarters


def test_a2_4_ties_go_to_the_first():
    operation = Pooling("max", np.ones((4, 4)), 2)
    trace = operation.output((1, 0))
    assert trace.terms[trace.chosen].left.position == (2, 0)
    assert operation.ties(trace) == ((2, 0), (2, 1), (3, 0), (3, 1))


def test_a2_4_averages_with_and_without_padding():
    image = np.arange(1.0, 10).reshape(3, 3)
    with_padding = Pooling("average", image, 3, stride=1, padding=1)
    assert np.round(whole(with_padding.output, (3, 3))[0], 4).tolist() == [1.3333, 2.3333, 1.7778]
    without = Pooling("average", image, 3, stride=1, padding=1, count_include_pad=False)
    assert whole(without.output, (3, 3)) == [[3, 3.5, 4], [4.5, 5, 5.5], [6, 6.5, 7]]


# -- against a backend ------------------------------------------------------------------------------------------------
CONVOLUTIONS = [
    ((1, 1), (1, 1), {}),
    ((5, 7), (2, 3), {"stride": (2, 1), "padding": ((1, 0), (2, 1))}),
    ((6, 6), (3, 2), {"dilation": (1, 2), "padding": "same", "flip": True}),
    ((7, 4), (7, 4), {"padding": 2, "stride": 3}),
]
POOLINGS = [
    ("max", (5, 6), {"window": (2, 3)}),
    ("min", (5, 5), {"window": 2, "ceil_mode": True}),
    ("max", (6, 6), {"window": 3, "stride": 2, "padding": 1, "dilation": (1, 2)}),
    ("average", (5, 6), {"window": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("average", (5, 6), {"window": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
]


def operations() -> list[Any]:
    rng = np.random.default_rng(0)
    found: list[Any] = []
    for size, window, settings in CONVOLUTIONS:
        found.append(Convolution(rng.standard_normal(size), rng.standard_normal(window), **settings))
    for kind, size, settings in POOLINGS:
        found.append(Pooling(kind, rng.integers(0, 5, size).astype(float), **settings))
    return found


@pytest.mark.parametrize("operation", operations(), ids=lambda o: f"{type(o).__name__}-{o.spec.h}x{o.spec.w}")
def test_every_position_agrees_with_the_numpy_backend(operation):
    backend, dy = get_backend("numpy"), np.random.default_rng(1).standard_normal(operation.output_shape)
    traces = {"output": operation.output, "input_gradient": lambda p: operation.input_gradient(p, dy)}
    if isinstance(operation, Convolution):
        traces["filter_gradient"] = lambda p: operation.filter_gradient(p, dy)
        traces["bias_gradient"] = lambda p: operation.bias_gradient(dy)
    for of, trace in traces.items():
        computed = operation.computed(backend, of, dy)
        for position in np.ndindex(*computed.shape):
            assert operation.check(trace(position), computed, backend) <= 1e-12


@pytest.mark.parametrize(
    "operation", [seed_convolution("asymmetric"), Pooling("max", np.arange(16.0).reshape(4, 4), 2)]
)
def test_the_emulated_kernels_agree(backend_of, operation):
    backend, dy = backend_of("emulated"), np.arange(9.0).reshape(3, 3)[: operation.spec.p, : operation.spec.q]
    for of, trace in (("output", operation.output), ("input_gradient", lambda p: operation.input_gradient(p, dy))):
        computed = operation.computed(backend, of, dy)
        assert max(operation.check(trace(p), computed, backend) for p in np.ndindex(*computed.shape)) == 0


def test_a_backend_that_differs_is_an_error():
    operation, backend = seed_convolution(), get_backend("numpy")
    wrong = operation.computed(backend, "output") + [[0, 1e-9, 0]]
    assert operation.check(operation.output((0, 0)), wrong, backend) == 0
    with pytest.raises(KernelError, match=r"explain: output \(0, 1\) is 3.0 step by step, and 3.000000001 on the num"):
        operation.check(operation.output((0, 1)), wrong, backend)
    with pytest.raises(KernelError, match="and nan on"):
        operation.check(operation.output((0, 1)), wrong * np.nan, backend)


def test_a_window_in_the_padding_alone_is_refused():
    operation = Pooling("max", np.ones((2, 2)), 2, padding=1, dilation=3)
    with pytest.raises(ValueError, match=r"the window of output \(0, 0\) lies in the padding alone"):
        operation.output((0, 0))


# -- matrices ---------------------------------------------------------------------------------------------------------
def test_matrices_are_read_from_text_and_files(tmp_path):
    rows = [[1.0, -2.5], [3.0, 4e2]]
    assert read_matrix("1,-2.5;3, 4e2", "m").tolist() == rows
    for name, content in (("m.csv", "1,-2.5\n3,4e2\n"), ("m.txt", "1 -2.5\n\n3 400\n")):
        (tmp_path / name).write_text(content)
        assert read_matrix(str(tmp_path / name), "m").tolist() == rows
    np.save(tmp_path / "m.npy", np.array(rows, np.float32))
    assert read_matrix(str(tmp_path / "m.npy"), "m").tolist() == rows
    np.save(tmp_path / "row.npy", np.arange(3))
    assert read_matrix(str(tmp_path / "row.npy"), "m").tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2;3", r"m: rows must have one length of at least 1, got lengths \[1, 2\]"),
        ("", r"m: rows must have one length of at least 1, got lengths \[0\]"),
        ("1,x", "m: '1,x' is no row of numbers; write rows as 1,0,1;0,1,0"),
        ("1,nan", "m: its numbers must be finite"),
    ],
)
def test_what_is_no_matrix_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_matrix(text, "m")


def test_files_that_are_no_matrix_are_refused(tmp_path):
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "words.npy", np.array(["a"]))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe")
    messages = {
        "missing.csv": "No such file", "cube.npy": r"got shape \(2, 2, 2\)", "words.npy": "expected real numbers",
        "broken.npy": "cannot be read as a matrix", "binary.csv": "cannot be read as a matrix",
    }  # fmt: skip
    for name, message in messages.items():
        with pytest.raises(DataError, match=message):
            read_matrix(str(tmp_path / name), "m")


# -- words and drawings -----------------------------------------------------------------------------------------------
def placeholders(phrase: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name is not None}


def test_both_languages_have_the_same_phrases():
    english = LANGUAGES["en"]
    for language, phrases in LANGUAGES.items():
        assert list(phrases) == list(english), language
        for key, phrase in phrases.items():
            assert placeholders(phrase) == placeholders(english[key]), f"{language}: {key}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_line_fits_a_terminal_of_80_columns(language):
    for operation in [*operations(), Convolution(np.ones((60, 60)) * 255, np.ones((5, 5)) * -0.123456, padding=2)]:
        shape = operation.output_shape
        dy = np.full(shape, -12.5)
        middle = (shape[0] // 2, shape[1] // 2)
        traces = [operation.output(middle), operation.input_gradient(middle, dy)]
        if isinstance(operation, Convolution):
            traces += [operation.filter_gradient((0, 0), dy), operation.bias_gradient(dy)]
        for trace in traces:
            writer = Explanation(operation, LANGUAGES[language], dy)
            result = operation.computed(get_backend("numpy"), trace.of, dy)
            lines = [*writer.heading(trace.of), *writer.window(trace, result), writer.line(trace)]
            lines.append(writer.agreement("emulated", 1.2345e-16))
            assert max(map(columns_of, lines)) <= 80, max(lines, key=columns_of)
            assert [line for line in lines if line != line.rstrip()] == []


def test_drawings():
    assert matrix(np.array([[1.0, 20], [3, -4]]), {(0, 1)}) == ["     0   1", "0    1 [20]", "1    3  -4"]
    padded = matrix(np.ones((1, 1)), {(-1, 0), (0, 0)}, (1, 0, 0, 1))
    assert padded == ["     0  1", "-1  [.] .", " 0  [1] ."]
    assert side_by_side(["ab", "c"], ["한", "d", "e"]) == ["ab    한", "c     d", "      e"]
    assert side_by_side(["x" * 50], ["y" * 40]) == ["x" * 50, "", "y" * 40]
    assert [number(v) for v in (1.0, -0.0, 0.25, 1e9, 1 / 3)] == ["1", "0", "0.25", "1e+09", "0.333333"]


def test_a_large_matrix_is_cropped_around_the_window():
    said = []
    lines = matrix(np.zeros((100, 100)), {(50, 60), (51, 61)}, cropped=lambda *part: said.append(part) or "part")
    assert lines[-1] == "part" and max(map(len, lines)) <= 80
    ((top, bottom, left, right),) = said
    assert top <= 50 and bottom >= 51 and left <= 60 and right >= 61 and bottom - top == 23
    assert len(lines) == 2 + 24


def test_a_long_sum_is_shortened_in_its_middle():
    operation, dy = Convolution(np.ones((20, 20)), np.ones((1, 1))), np.ones((20, 20))
    trace = operation.filter_gradient((0, 0), dy)
    lines = Explanation(operation, LANGUAGES["en"], dy).window(trace, np.array([[400.0]]))
    cut = lines.index("  ... (336)")
    assert lines[cut - 1].split()[-1] == "56" and lines[cut + 1].split()[-1] == "393"


def test_public_names():
    assert set(explain.__all__) >= {"Convolution", "Pooling", "read_matrix", "LANGUAGES", "EXAMPLES"}
