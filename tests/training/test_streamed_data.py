"""Data sets that do not fit the device: the same bits as those that do, a window of them at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn.augment import RandomTranslation
from gpucnn.backends import Backend
from gpucnn.layers import Conv2D, Dense, Dropout, Flatten
from gpucnn.training import loop, streamed
from gpucnn.training.resident import ResidentData
from gpucnn.training.streamed import StreamedData, placed

COUNT, SHAPE = 43, (5, 4, 2)
ROW = 5 * 4 * 2 + 4
"""Bytes of a sample of uint8 with its label."""


def data(dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.integers(0, 9, (COUNT, *SHAPE)).astype(dtype), rng.integers(0, 3, COUNT).astype(np.int32)


def little_memory(monkeypatch: pytest.MonkeyPatch, backend: Backend, batches: int, row: int = ROW) -> list[Any]:
    """Have room for a window of so many batches of 4 rows; return the list of the data sets that are placed."""
    monkeypatch.setattr(streamed, "_WINDOW_SHARE", 1)
    monkeypatch.setattr(type(backend), "free_bytes", lambda self: batches * 4 * row)
    made: list[Any] = []

    def noting(*arguments: Any) -> Any:
        made.append(placed(*arguments))
        return made[-1]

    monkeypatch.setattr(loop, "placed", noting)
    return made


def model() -> gpucnn.Sequential:
    gpucnn.seed(5)
    layers = [RandomTranslation(0.3, 0.3, input_shape=SHAPE), Conv2D(3, 3, activation="relu")]
    made = gpucnn.Sequential([*layers, Dropout(0.2), Flatten(), Dense(3, activation="softmax")])
    made.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["acc"])
    return made


def trained(**options: Any) -> tuple[Any, ...]:
    x, y = data(options.pop("dtype", "uint8"))
    made = model()
    history = made.fit(x, y, batch_size=4, epochs=3, verbose=0, **options).history
    tested = made.evaluate(x, y, batch_size=4, return_dict=True)
    weights = [value.tobytes() for value in made.state_dict().values()]
    return history["loss"], history["acc"], tested, made.predict(x, batch_size=4).tobytes(), weights


@pytest.mark.parametrize("batches", [1, 3])
def test_streamed_data_give_the_bits_of_resident_ones(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    expected = trained()
    made = little_memory(monkeypatch, backend, batches)
    assert trained() == expected
    assert [type(one) for one in made] == [StreamedData] * 3
    assert {one.capacity for one in made} == {4 * batches}


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False}, {"limit_batches": 4}, {"validation_split": 0.3}, {"dtype": "float32"},
        {"sample_weight": np.linspace(0.5, 1.5, COUNT, dtype=np.float32)},
    ],
)  # fmt: skip
def test_with_other_options(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    with gpucnn.use_backend("numpy") as backend:
        expected = trained(**options)
        made = little_memory(monkeypatch, backend, 2, ROW * 4 if "dtype" in options else ROW + 4)
        assert trained(**options) == expected
    assert {one.capacity for one in made} == {8}


def test_launches_of_several_steps_end_with_the_window(capturing: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph may hold no more steps than device memory holds batches."""
    monkeypatch.setattr(loop, "LAUNCH_SECONDS", 1e9)
    expected = trained()
    little_memory(monkeypatch, capturing, 3)
    assert trained() == expected


def test_r2_an_epoch_goes_on_in_the_middle(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = data()
    order = np.random.default_rng(1).permutation(COUNT).astype(np.int32)
    window = StreamedData(x, None, None, backend, "float32", 10)
    for first in (0, 12, 40, 8):
        window.start(order, first)
        for at in range(first, COUNT, 4):
            rows = min(4, COUNT - at)
            assert rows <= window.ready(at, rows) <= 10
            np.testing.assert_array_equal(window.take(rows)[0].numpy(), x[order[at : at + rows]])


def test_targets_that_are_no_labels_and_weights_come_along(backend: Backend) -> None:
    x, _ = data()
    y, weight = np.arange(COUNT * 2, dtype=np.float32).reshape(COUNT, 2), np.arange(COUNT, dtype=np.float32)
    order = np.random.default_rng(1).permutation(COUNT).astype(np.int32)
    window = StreamedData(x, y, weight, backend, "float32", 10)
    assert window.weighted
    window.start(order)
    for at in range(0, COUNT, 4):
        chosen = order[at : at + 4]
        window.ready(at, len(chosen))
        found = [*window.take(len(chosen)), window.take_weight(len(chosen))]
        for one, expected in zip(found, (x, y, weight), strict=True):
            assert one is not None
            np.testing.assert_array_equal(one.numpy(), expected[chosen])


def test_the_window_is_filled_when_it_is_used_up_and_not_before(backend: Backend) -> None:
    x, y = data()
    window = StreamedData(x, y, None, backend, "float32", 12)
    window.start(np.arange(COUNT, dtype=np.int32))
    assert [window.ready(at, 4) for at in range(0, 20, 4)] == [12, 8, 4, 12, 8]


def test_half_of_the_free_memory_may_hold_data(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    total = x.nbytes + y.nbytes
    for free, kind in ((None, ResidentData), (2 * total, ResidentData), (2 * total - 2, StreamedData)):
        monkeypatch.setattr(type(backend), "free_bytes", lambda self, free=free: free)
        assert type(placed(x, y, None, backend, "float32", 4)) is kind
    monkeypatch.setattr(type(backend), "free_bytes", lambda self: 0)
    assert placed(x, y, None, backend, "float32", 4).capacity == 4, "a batch at least"
    assert placed(x, y, None, backend, "float32", 400).capacity == COUNT
