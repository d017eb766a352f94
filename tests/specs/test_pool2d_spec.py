"""Pool2dSpec: floor and ceil sizes by PyTorch's rule, padding, refusals, the type of the stored offsets."""

from __future__ import annotations

from typing import Any

import pytest

from gpucnn.specs import Pool2dSpec


def spec(kind: str = "max", x: tuple[int, ...] = (2, 9, 8, 6), window: Any = 2, **options: Any) -> Pool2dSpec:
    return Pool2dSpec.of(kind, x, window, options.pop("dtype", "float32"), **options)


@pytest.mark.parametrize(
    "n, k, stride, pad, floor, ceil",
    [(27, 2, 2, 0, 13, 14), (5, 2, 2, 0, 2, 3), (6, 3, 2, 0, 2, 3), (7, 3, 2, 1, 4, 4), (4, 2, 3, 1, 2, 2)],
)
def test_sizes_of_the_worked_examples(n: int, k: int, stride: int, pad: int, floor: int, ceil: int) -> None:
    """WORKED_EXAMPLES.md A2.4, by PyTorch's rule: a window may not start in the trailing pad."""
    found = [spec(x=(1, n, n, 1), window=k, stride=stride, padding=pad, ceil_mode=c).p for c in (False, True)]
    assert found == [floor, ceil]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("pads", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_size_counts_the_positions(ceil_mode: bool, pads: tuple[int, int], dilation: int) -> None:
    """By definition: starts from which the window fits, or, with ceil_mode, that lie in the input or the leading pad
    and are needed to reach the end.
    """
    for n in range(1, 13):
        for k in range(2, 5):
            for stride in range(1, 6):
                span, total = dilation * (k - 1) + 1, n + sum(pads)
                if span > total:
                    continue
                starts = [s for s in range(0, total, stride) if s + span <= total]
                if ceil_mode and starts[-1] + span < total and starts[-1] + stride < n + pads[0]:
                    starts.append(starts[-1] + stride)
                found = spec(
                    x=(1, n, 5, 1), window=(k, 1), stride=(stride, 1), dilation=(dilation, 1),
                    padding=(pads, (0, 0)), ceil_mode=ceil_mode,
                )  # fmt: skip
                assert found.p == len(starts), found


def test_stride_is_the_window_by_default() -> None:
    assert spec(window=(3, 2)).stride == (3, 2) and spec(window=(3, 2), stride=1).stride == (1, 1)


@pytest.mark.parametrize(
    "window, padding, expected",
    [
        (2, 0, (0, 0, 0, 0)),
        (2, "valid", (0, 0, 0, 0)),
        (3, 1, (1, 1, 1, 1)),
        ((5, 2), (2, 1), (2, 2, 1, 1)),
        ((4, 3), ((2, 0), (0, 1)), (2, 0, 0, 1)),
        (2, "same", (0, 1, 0, 0)),  # 9 rows in windows of 2: one more at the bottom
    ],
)
def test_forms_of_padding(window: Any, padding: Any, expected: tuple[int, ...]) -> None:
    assert spec(window=window, padding=padding).pads == expected


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "median"}, "unknown pooling 'median'; known: max, min, average"),
        ({"x": (9, 8, 6)}, r"^max pooling: x must be \(N, H, W, C\), got shape \(9, 8, 6\)$"),
        ({"x": (2, 9, 0, 6)}, "must have at least one row, column and channel"),
        ({"window": 10}, r"height of the output would be floor\(\(9 \+ 0 \+ 0"),
        ({"window": (2, 10)}, "width of the output"),
        ({"window": 10, "ceil_mode": True}, "a window of 10 with dilation 1 does not fit 9"),
        *(
            ({"window": w}, "^max pooling: window must be an integer")
            for w in (0, -1, 2.0, (2, 0), (1, 2, 3), None, "2")
        ),
        *(({"stride": s}, "^max pooling: stride must be an integer") for s in (0, -1, 1.5, (1, 2, 3))),
        *(({"dilation": d}, "^max pooling: dilation must be an integer") for d in (0, -1, 2**31)),
        ({"padding": -1}, "^max pooling: padding must be an integer"),
        ({"padding": 2}, "padding must be at most half the window, got padding 2 for window 2"),
        ({"window": (4, 2), "padding": (2, 2)}, r"at most half the window, got padding \(2, 2\) for window \(4, 2\)"),
        ({"window": 3, "padding": ((0, 2), (0, 0))}, "at most half the window"),
        ({"kind": "average", "dilation": 2}, "average pooling: dilation must be 1, got 2"),
        ({"x": (2**31, 1, 1, 1), "window": 1}, "too large"),
    ],
)
def test_s1_to_s9_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**options)


def test_s6_an_empty_batch_is_a_spec() -> None:
    assert spec(x=(0, 9, 8, 6)).y_shape == (0, 4, 4, 6)


@pytest.mark.parametrize("window, dtype", [(2, "uint8"), (16, "uint8"), ((1, 256), "uint8"), (17, "int32")])
def test_offsets_take_the_smallest_type_that_holds_them(window: Any, dtype: str) -> None:
    assert spec(x=(1, 300, 300, 1), window=window).argmax_dtype == dtype


def test_cost_and_terms() -> None:
    found = spec(x=(2, 9, 8, 6), window=(3, 2), dtype="float64")
    assert found.flops == 2 * 3 * 4 * 6 * 3 * 2
    assert found.bytes == 2 * (9 * 8 * 6 * 8 + 3 * 4 * 6 * (8 + 1))
    assert spec("average", (2, 9, 8, 6), (3, 2)).bytes == 2 * (9 * 8 * 6 * 4 + 3 * 4 * 6 * 4)
    assert found.terms("pool2d_forward") == 6


def test_macros_hold_every_size_but_the_batch() -> None:
    found = spec("min", window=(3, 2), padding=((1, 0), (1, 1)), stride=(2, 1), dilation=(1, 3))
    assert found.macros() == found.batchless().macros()
    assert found.macros()["SPEC_KIND"] == 1 and found.macros()["SPEC_ARGMAX_T"] == "unsigned char"
