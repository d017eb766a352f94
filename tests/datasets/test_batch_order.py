"""The order of samples, and host-side batches: rows R1, R2, R3, R5, N5, N8, S13 and S18."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gpucnn.datasets.loader import Batches, batch_order

X = np.arange(23 * 2, dtype=np.float32).reshape(23, 2)
Y = np.arange(23, dtype=np.uint8)


def labels_of(batches: Batches) -> list[list[int]]:
    return [y.tolist() for _, y in batches]


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_order_is_a_permutation(count: int) -> None:
    order = batch_order(count, seed=3, epoch=4)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


def test_r1_same_seed_and_epoch_give_the_same_order() -> None:
    np.testing.assert_array_equal(batch_order(1000, seed=7, epoch=2), batch_order(1000, seed=7, epoch=2))
    # Fixed for ever: a run resumed after an upgrade must go on in the same order.
    assert batch_order(10, seed=7, epoch=2).tolist() == [0, 2, 3, 8, 1, 6, 4, 5, 7, 9]


def test_r3_seeds_and_r5_epochs_give_unrelated_orders() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2**40, 0), (2**64, 0)]
    orders = [batch_order(1000, seed=seed, epoch=epoch) for seed, epoch in keys]
    for one in range(len(keys)):
        for other in range(one):
            # Two random permutations agree in one place on average; eight have probability 1e-6.
            assert np.sum(orders[one] == orders[other]) < 8, (keys[one], keys[other])


def test_every_position_is_equally_likely() -> None:
    first = [int(batch_order(5, seed=0, epoch=epoch)[0]) for epoch in range(2000)]
    np.testing.assert_allclose(np.bincount(first, minlength=5), 400, atol=90)


def test_order_without_shuffling() -> None:
    np.testing.assert_array_equal(
        batch_order(5, seed=1, epoch=9, shuffle=False), np.arange(5, dtype=np.int32), strict=True
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"count": -1}, ValueError, "count must be from 0 to 2147483647, got -1"),
        ({"count": 2**31}, ValueError, "count must be from 0 to 2147483647, got 2147483648"),
        ({"count": 2.0}, TypeError, "count must be an integer, got 2.0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": None}, TypeError, "seed must be an integer, got None"),
        ({"epoch": -1}, ValueError, "epoch must be at least 0, got -1"),
        ({"epoch": True}, TypeError, "epoch must be an integer, got True"),
    ],
)
def test_bad_arguments_of_the_order(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        batch_order(**({"count": 5, "seed": 0, "epoch": 0} | arguments))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24, 100])
def test_s18_batches_cut_the_order(batch_size: int, drop_last: bool) -> None:
    batches = Batches(X, Y, batch_size, seed=5, drop_last=drop_last)
    order = batch_order(23, seed=5, epoch=0)
    wanted = [order[start : start + batch_size].tolist() for start in range(0, 23, batch_size)]
    if drop_last:
        wanted = [batch for batch in wanted if len(batch) == batch_size]
    assert len(batches) == len(wanted)
    for (x, y), batch in zip(batches, wanted, strict=True):
        np.testing.assert_array_equal(y, Y[batch], strict=True)
        np.testing.assert_array_equal(x, X[batch], strict=True)


def test_n8_batch_larger_than_the_set_is_one_short_batch() -> None:
    ((x, y),) = Batches(X, Y, 1000, shuffle=False)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert list(Batches(X, Y, 1000, drop_last=True)) == []


def test_batches_are_copies() -> None:
    source = X.copy()
    for x, _ in Batches(source, Y, 4, shuffle=False):
        x[...] = -1
    np.testing.assert_array_equal(source, X)


def test_r5_each_pass_has_its_own_order_and_set_epoch_repeats_one() -> None:
    batches = Batches(X, Y, 4, seed=1)
    passes = [labels_of(batches) for _ in range(3)]
    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert batches.epoch == 3
    batches.set_epoch(1)
    assert labels_of(batches) == passes[1]
    assert labels_of(batches) == passes[2]
    assert labels_of(Batches(X, Y, 4, seed=1)) == passes[0]
    assert labels_of(Batches(X, Y, 4, seed=2)) != passes[0]


def test_a_loop_left_early_starts_the_epoch_anew() -> None:
    batches = Batches(X, Y, 4)
    whole = labels_of(Batches(X, Y, 4))
    for _, y in batches:
        assert y.tolist() == whole[0]
        break
    assert batches.epoch == 0
    assert labels_of(batches) == whole


@pytest.mark.parametrize("stop", range(7))
def test_r2_resumed_batches_equal_uninterrupted_ones(stop: int) -> None:
    whole = Batches(X, Y, 4, seed=9)
    wanted = [labels_of(whole) for _ in range(3)]

    interrupted = Batches(X, Y, 4, seed=9)
    seen = [labels_of(interrupted), []]
    state = interrupted.state_dict()
    if stop:
        for done, (_, y) in enumerate(interrupted, start=1):
            seen[1].append(y.tolist())
            state = interrupted.state_dict()
            if done == stop:
                break
    resumed = Batches(X, Y, 4, seed=9)
    resumed.load_state_dict(state)
    assert resumed.epoch == 1
    assert resumed.state_dict() == state
    seen[1] += labels_of(resumed)
    assert seen == wanted[:2]
    assert labels_of(resumed) == wanted[2]


def test_state_of_other_data_or_settings_is_refused() -> None:
    batches = Batches(X, Y, 4, seed=9)
    before = batches.state_dict()
    for key, value in (("count", 24), ("batch_size", 5), ("shuffle", False), ("seed", 8), ("drop_last", True)):
        with pytest.raises(
            ValueError, match=f"state was saved with {key} {value!r}, these batches have {before[key]!r}"
        ):
            batches.load_state_dict(before | {key: value})
    with pytest.raises(ValueError, match="batches_done must be from 0 to 6, got 7"):
        batches.load_state_dict(before | {"epoch": 3, "batches_done": 7})
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        batches.load_state_dict(before | {"epoch": -1})
    with pytest.raises(ValueError, match="state lacks batch_size, .*; it holds epoch"):
        batches.load_state_dict({"epoch": 1})
    assert batches.state_dict() == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": Y[:-1]}, ValueError, "x and y must have the same length, got 23 and 22"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, "x must hold at least one sample, got none"),
        ({"x": 1.0}, ValueError, "x must have a first axis of samples, got a scalar"),
        ({"y": np.array(["a"] * 23)}, TypeError, "y must hold numbers, got dtype <U1"),
        ({"x": np.array([None] * 23)}, TypeError, "x must hold numbers, got dtype object"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": -4}, ValueError, "batch_size must be at least 1, got -4"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, got 2.5"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_n5_bad_arguments_of_batches(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Batches(**({"x": X, "y": Y, "batch_size": 4} | arguments))


def test_s13_big_endian_arrays_are_converted() -> None:
    ((x, y),) = Batches(X.astype(">f4"), Y.astype(">i4"), 23, shuffle=False)
    np.testing.assert_array_equal(x, X, strict=True)
    np.testing.assert_array_equal(y, Y.astype(np.int32), strict=True)


def test_half_precision_passes_through() -> None:
    ((x, _),) = Batches(X.astype(ml_dtypes.bfloat16), Y, 23, shuffle=False)
    assert x.dtype == ml_dtypes.bfloat16
