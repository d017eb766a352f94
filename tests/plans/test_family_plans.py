"""Properties of the plans of the element-wise, row-wise and optimizer operations, over all of their cases."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from cases import batch_norm, clip, concatenate, elementwise, gather, loss, metrics, optimizer, random, reduce, softmax

from gpucnn import plans
from gpucnn.kernel_source import compose
from gpucnn.limits import CAPABILITIES, MAX_GRID, STATIC_SHARED_BYTES, limits_of
from gpucnn.plans import geometry

FAMILIES = {
    "activation_forward": elementwise.ACTIVATION, "activation_backward_input": elementwise.ACTIVATION,
    "binary_forward": elementwise.BINARY, "scalar_forward": elementwise.SCALAR, "cast_forward": elementwise.CAST,
    "fill_forward": elementwise.ARRAY, "accumulate_update": elementwise.ARRAY,
    "dropout_forward": random.DROPOUT, "dropout_backward_input": random.DROPOUT,
    "reduce_forward": reduce.REDUCE, "reduce_backward_input": reduce.REDUCE,
    "batch_norm_forward": batch_norm.BATCH_NORM, "batch_norm_update": batch_norm.BATCH_NORM,
    "batch_norm_inference_forward": batch_norm.BATCH_NORM, "batch_norm_backward_operands": batch_norm.GRADIENT,
    "concatenate_forward": concatenate.CONCATENATE, "concatenate_backward_input": concatenate.CONCATENATE,
    "softmax_forward": softmax.SOFTMAX, "softmax_backward_input": softmax.SOFTMAX,
    "cross_entropy_forward": loss.CROSS_ENTROPY, "cross_entropy_backward_logits": loss.CROSS_ENTROPY,
    "cross_entropy_update": loss.SCALAR_LOSS, "binary_cross_entropy_forward": loss.BINARY_CROSS_ENTROPY,
    "binary_cross_entropy_backward_logits": loss.BINARY_CROSS_ENTROPY,
    "gather_update": gather.GATHER, "metrics_update": metrics.METRICS,
    "argmax_forward": metrics.ARGMAX, "confusion_update": metrics.CONFUSION,
    "sgd_update": optimizer.SGD, "adam_update": optimizer.ADAM,
    "squared_norm_forward": clip.SQUARED_NORM, "clip_update": clip.CLIP,
}  # fmt: skip
DTYPES = ("float32", "float64", "float16")
RUN_TIME = (
    "count",
    "outer",
    "length",
    "inner",
    "rows",
    "columns",
    "classes",
    "width",
    "source_rows",
    "order_length",
    "stream",
    "channels",
)


def every_plan(operation: str):
    for make in FAMILIES[operation].values():
        for dtype in DTYPES:
            for alignment in (16, 1):
                spec = make(dtype)
                for plan in plans.candidates(operation, spec, limits_of(75), alignment):
                    yield spec, alignment, plan


@pytest.mark.parametrize("operation", FAMILIES)
def test_every_spec_has_a_plan_of_direct_on_every_device(operation):
    for make in FAMILIES[operation].values():
        for capability in CAPABILITIES:
            for alignment in (16, 1):
                found = plans.candidates(operation, make("float32"), limits_of(capability), alignment)
                assert any(plan.algorithm == "direct" for plan in found)
                assert len({plan.name for plan in found}) == len(found)


@pytest.mark.parametrize("operation", FAMILIES)
def test_launches_are_legal_and_vector_loads_only_where_aligned(operation):
    for _, alignment, plan in every_plan(operation):
        for launch in plan.launches:
            assert launch.threads <= 1024 and launch.shared_bytes == 0 <= STATIC_SHARED_BYTES
            assert all(1 <= g <= most for g, most in zip(launch.grid, MAX_GRID, strict=True))
            assert launch.alignment <= alignment or launch.alignment == 0
            width = dict(launch.macros).get("TUNE_WIDTH", 1)
            assert (launch.alignment == 16) == (width > 1)


@pytest.mark.parametrize("operation", FAMILIES)
def test_entries_exist_and_every_macro_they_need_is_defined(operation):
    for _, _, plan in every_plan(operation):
        for launch in plan.launches:
            source = compose(launch.file, dict(launch.macros))
            assert source.parameters(launch.entry)
            code = re.sub(r"//[^\n]*", "", source.text)
            used = set(re.findall(r"\b(?:SPEC|TUNE)_\w+", code)) - set(re.findall(r"#ifdef (\w+)", code))
            assert used - {"SPEC_ACTIVATION", "SPEC_SLOPE"} <= set(dict(launch.macros)), launch
            writes_workspace = [p for p in source.parameters(launch.entry) if p.name == "workspace" and not p.const]
            assert not writes_workspace or plan.workspace_bytes > 0


@pytest.mark.parametrize("operation", FAMILIES)
def test_run_time_sizes_change_neither_texts_nor_names(operation):
    for make in FAMILIES[operation].values():
        spec = make("float32")
        sizes = {name: getattr(spec, name) for name in RUN_TIME if name in type(spec).runtime}
        other = replace(spec, **{name: value + 256 * 8 for name, value in sizes.items()})
        for alignment in (16, 1):
            mine = plans.candidates(operation, spec, limits_of(90), alignment)
            theirs = plans.candidates(operation, other, limits_of(90), alignment)
            assert {p.name for p in mine} == {p.name for p in theirs}
            texts = [
                {(launch.file, launch.macros) for plan in found for launch in plan.launches} for found in (mine, theirs)
            ]
            assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "operation", [name for name, cases in FAMILIES.items() if cases in (elementwise.ACTIVATION, elementwise.ARRAY)]
)
def test_maps_have_a_thread_for_every_element_and_no_idle_block(operation):
    for spec, _, plan in every_plan(operation):
        (launch,) = plan.launches
        each = int(str(dict(launch.macros)["TUNE_WIDTH"])) * geometry.BLOCK
        assert launch.grid[0] * each >= spec.count > (launch.grid[0] - 1) * each


def test_packs_of_binary_operations_never_cross_a_row():
    for spec, _, plan in every_plan("binary_forward"):
        width = int(str(dict(plan.launches[0].macros)["TUNE_WIDTH"]))
        assert width == 1 or len(spec.axes()) == 1 or spec.axes()[-1][0] % width == 0
