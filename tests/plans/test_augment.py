"""Plans of changing images: blocks of one image each cover every element."""

from __future__ import annotations

import math

import pytest
from cases.augment import AUGMENT

from gpucnn import plans
from gpucnn.limits import CAPABILITIES, limits_of


@pytest.mark.parametrize("case", AUGMENT)
def test_blocks_cover_each_image_once(case):
    spec = AUGMENT[case]("float32")
    for capability in CAPABILITIES:
        (plan,) = plans.candidates("augment_forward", spec, limits_of(capability), 1)
        (launch,) = plan.launches
        macros = dict(launch.macros)
        part = macros["TUNE_BLOCK"] * macros["TUNE_PER_THREAD"]
        blocks, rest = divmod(launch.grid[0], spec.n)
        assert rest == 0 and launch.block == (macros["TUNE_BLOCK"], 1, 1)
        assert (blocks - 1) * part < math.prod(spec.y_shape[1:]) <= blocks * part


def test_text_does_not_depend_on_the_batch_nor_on_values():
    one, other = (AUGMENT[case]("float32") for case in ("erase_half", "erase_half"))
    changed = type(other)(**{**vars(other), "n": 3, "probability": 0.1, "value": 4.0, "stream": 9})
    first, second = (plans.candidates("augment_forward", s, limits_of(90), 16)[0].launches[0] for s in (one, changed))
    assert first.macros == second.macros and first.grid != second.grid
    assert one.batchless() == changed.batchless()
