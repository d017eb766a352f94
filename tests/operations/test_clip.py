"""Clipping: sums of squares over pieces and groups, and gradients brought within a limit by them."""

from __future__ import annotations

import math

import harness
import numpy as np
import pytest
from cases import clip as cases
from reference import clip as reference

from gpucnn.backends import Backend
from gpucnn.specs import ClipSpec, SquaredNormSpec
from gpucnn.specs.optimizer import DECAYED, PIECE, TRAINABLE, elements_per_flag

EVERY_PLAN = harness.on_every_backend("direct/x4", "direct/x1")
KINDS = ("float32", "float64")


class Buffer:
    """Pieces of several lengths, a whole one first, shared out to groups; every fourth is frozen.

    Args:
        pieces, groups: how many; a group's pieces stand together.
        dtype: of the gradients.
    """

    def __init__(self, pieces: int, groups: int, dtype: str) -> None:
        self.each = elements_per_flag(dtype)
        lengths = [PIECE if i == 0 else 1 + i % 3 for i in range(pieces)]
        starts = np.cumsum([0, *lengths])
        owners = [i * groups // pieces for i in range(pieces)]
        self.pieces = np.array(list(zip(owners, starts, lengths, strict=False)), np.int32)
        self.bounds = np.searchsorted(owners, np.arange(groups + 1)).astype(np.int32)
        self.flags = np.zeros(starts[-1], np.uint8)
        for i, (start, length) in enumerate(zip(starts, lengths, strict=False)):
            self.flags[start : start + length] = (TRAINABLE | DECAYED, TRAINABLE, TRAINABLE, DECAYED)[i % 4]
        self.gradients = harness.random((int(starts[-1]) * self.each,), dtype)

    def parts(self, group: int | None = None) -> list[np.ndarray]:
        """Return the trainable pieces' gradients, of one group or of all."""
        found = []
        for owner, first, length in self.pieces.tolist():
            if self.flags[first] & TRAINABLE and group in (None, owner):
                found.append(self.gradients[first * self.each : (first + length) * self.each])
        return found


def norms(backend: Backend, buffer: Buffer, spec: SquaredNormSpec) -> np.ndarray:
    held = [backend.from_host(a) for a in (buffer.gradients, buffer.flags, buffer.pieces, buffer.bounds)]
    return backend.to_host(backend.squared_norm_forward(*held, spec))


def check_norms(backend: Backend, spec: SquaredNormSpec) -> None:
    buffer = Buffer(spec.pieces, spec.groups, spec.dtype)
    expected = [reference.squared_norm(buffer.parts(group)) for group in range(spec.groups)]
    found = norms(backend, buffer, spec)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("squared_norm_forward", cases.SQUARED_NORM, KINDS)
)
def test_sums_of_squares_equal_the_definition(forced, backend_name, case, dtype, plan):
    check_norms(forced(backend_name, "squared_norm_forward", plan), cases.SQUARED_NORM[case](dtype))


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
def test_squares_do_not_overflow(forced, name, plan):
    backend, buffer = forced(name, "squared_norm_forward", plan), Buffer(1, 1, "float32")
    buffer.gradients[...] = 3e38
    expected = float(np.float32(3e38)) ** 2 * PIECE * buffer.each
    np.testing.assert_allclose(norms(backend, buffer, SquaredNormSpec(1, 1, "float32")), [expected], rtol=1e-13)
    for bad in (np.inf, np.nan):
        buffer.gradients[5] = bad
        assert not np.isfinite(norms(backend, buffer, SquaredNormSpec(1, 1, "float32"))).any()


def test_nothing_has_norm_zero_s6(backend):
    none = np.zeros((0, 3), np.int32), np.zeros(3, np.int32)
    tables = [backend.from_host(a) for a in (np.zeros(0, np.float32), np.zeros(1, np.uint8), *none)]
    out = backend.from_host(np.full(2, 7.0))
    found = backend.squared_norm_forward(*tables, SquaredNormSpec(0, 2, "float32"), out=out)
    assert found is out and backend.to_host(found).tolist() == [0.0, 0.0]


# -- clipping ---------------------------------------------------------------------------------------------------------
def clip(backend: Backend, buffer: Buffer, sums: np.ndarray | None, limit: float, spec: ClipSpec) -> np.ndarray:
    gradients = backend.from_host(buffer.gradients)
    flags, pieces = backend.from_host(buffer.flags), backend.from_host(buffer.pieces)
    held = None if sums is None else backend.from_host(sums)
    backend.clip_update(gradients, held, flags, pieces, backend.from_host(np.array([limit])), spec)
    return backend.to_host(gradients)


def expected_of(buffer: Buffer, sums: np.ndarray | None, limit: float, kind: str) -> np.ndarray:
    want = buffer.gradients.astype(np.float64)
    for owner, first, length in buffer.pieces.tolist():
        place = slice(first * buffer.each, (first + length) * buffer.each)
        if not buffer.flags[first] & TRAINABLE:
            continue
        if sums is None:
            want[place] = reference.by_value(buffer.gradients[place], limit)
        else:
            squared = math.fsum(sums) if kind == "global_norm" else float(sums[owner])
            want[place] = reference.by_norm(buffer.gradients[place], limit, squared)
    return want


def check_clip(backend: Backend, spec: ClipSpec) -> None:
    """Limits below, among and above the norms."""
    buffer = Buffer(spec.pieces, spec.sums if spec.kind == "norm" else 1, spec.dtype)
    sums = None if spec.kind == "value" else np.arange(1.0, spec.sums + 1) ** 2
    for limit in (0.5, 2.0, 1e3):
        found = clip(backend, buffer, sums, limit, spec)
        harness.compare(found, expected_of(buffer, sums, limit, spec.kind), spec, spec.terms("clip_update"))
    np.testing.assert_array_equal(found, buffer.gradients, err_msg="within the limit: no bit changes")


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("clip_update", cases.CLIP, KINDS))
def test_clipped_gradients_equal_the_definition(forced, backend_name, case, dtype, plan):
    check_clip(forced(backend_name, "clip_update", plan), cases.CLIP[case](dtype))


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
@pytest.mark.parametrize("kind, sums", [("norm", [math.inf, 4.0, math.nan]), ("global_norm", [math.inf])])
def test_a_norm_that_is_not_finite_makes_its_gradients_nan(forced, name, plan, kind, sums):
    backend, buffer = forced(name, "clip_update", plan), Buffer(7, 3 if kind == "norm" else 1, "float32")
    spec, given = ClipSpec(kind, 7, len(sums), "float32"), np.array(sums)
    expected = expected_of(buffer, given, 1.0, kind)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(clip(backend, buffer, given, 1.0, spec), expected, rtol=1e-6)


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
def test_values_at_the_limit_beyond_and_nan(forced, name, plan):
    backend, buffer = forced(name, "clip_update", plan), Buffer(1, 1, "float32")
    buffer.gradients[:8] = [np.inf, -np.inf, np.nan, 0.25, -0.25, 0.2500001, -0.0, -3.0]
    found = clip(backend, buffer, None, 0.25, ClipSpec("value", 1, 0, "float32"))
    np.testing.assert_array_equal(found[:8], [0.25, -0.25, np.nan, 0.25, -0.25, 0.25, -0.0, -0.25])


def test_a_norm_at_the_limit_changes_no_bit(backend):
    buffer = Buffer(1, 1, "float32")
    for kind in ("norm", "global_norm"):
        found = clip(backend, buffer, np.array([9.0]), 3.0, ClipSpec(kind, 1, 1, "float32"))
        np.testing.assert_array_equal(found, buffer.gradients)


def test_kinds_of_clipping():
    with pytest.raises(ValueError, match="^clip: kind must be one of value, norm, global_norm, got 'max'$"):
        ClipSpec("max", 1, 1, "float32")


def test_kernels_are_clean_under_the_checker(check_backend):
    for case in ("5_pieces_2_groups", "300_pieces_1_groups"):
        check_norms(check_backend, cases.SQUARED_NORM[case]("float32"))
    for case in ("value_7", "norm_7_of_3", "global_5_of_3"):
        check_clip(check_backend, cases.CLIP[case]("float32"))
