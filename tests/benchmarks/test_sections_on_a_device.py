"""The sections for a GPU: every case runs on a device that launches nothing, beside a PyTorch that computes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from reference.conv2d import Geometry, backward_input, backward_weight, forward

from gpucnn import backends
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks import block, compare, kernels, mnist, overhead, pool, report, step, torch_training
from gpucnn.benchmarks.case import Conditions
from gpucnn.benchmarks.ceilings import Ceilings
from gpucnn.benchmarks.layers import CONVOLUTIONS, PASSES
from gpucnn.benchmarks.networks import LENET5, RECORD
from gpucnn.benchmarks.own import PRECISIONS, SCRUB_BYTES, SPLIT, Own
from gpucnn.benchmarks.reference_torch import LAYOUTS, Reference
from gpucnn.devices.null import NullDevice
from gpucnn.errors import DeviceError
from gpucnn.limits import limits_of
from gpucnn.model import step_memory
from gpucnn.optimizers import Adam
from gpucnn.specs import Pool2dSpec
from gpucnn.specs.base import MAX_ELEMENTS

EMULATED = backends.available("emulated")
SOME = {kernels: "C128"}
"""Of sections with many cases: the names of those that are run."""
SECTIONS = (block, kernels, mnist, pool, step)


@pytest.fixture
def compared(idle: Conditions, torch: Any) -> Conditions:
    """The idle conditions with PyTorch beside."""
    reference = Reference("cuda")
    assert idle.own is not None
    return replace(idle, reference=reference, ceilings=Ceilings(idle.own, reference, 64, 4))


def rows_of(section: Any, conditions: Conditions, wanted: str = "") -> dict[str, dict[str, Any]]:
    return {case.name: case.measure() for case in section.cases(conditions) if wanted in case.name}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_case_is_compared(section, compared):
    rows = rows_of(section, compared, SOME.get(section, ""))
    keys = {column.key for column in section.COLUMNS} - {"case", "error", "their_error"}
    for name, row in rows.items():
        assert keys <= row.keys(), name
        assert row["wall_ratio"]["median"] > 0 and not row.get("failed"), name
    if section not in SOME:
        assert all(value is not None for value in section.summary(rows).values())
    assert set(section.summary({}).values()) == {None}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_without_pytorch_gpucnn_is_timed_alone(section, idle):
    wanted = "float32" if section in (step, pool) else "C1 K24" if section is kernels else ""
    rows = rows_of(section, idle, wanted)
    assert rows
    for row in rows.values():
        assert row["ours_wall"] > 0 and "wall_ratio" not in row
    found = section.summary(rows)
    assert all(value is None for name, value in found.items() if "copy" not in name and "PyTorch" in name)


def test_scrubbing_reads_all_and_writes_next_to_nothing():
    device = NullDevice(limits_of(90))
    own = Own(KernelBackend(device), 1 << 20)
    with device.allocation_log() as log:
        own.scrub()
    assert not log.requests, "it takes no memory"
    device.launches.clear()
    own.scrub()
    ((_, entry),) = device.launches
    assert entry == "reduce_forward_direct"
    assert own._rows.outer * own._rows.length == (1 << 20) // 4 and own._sums.size == 64
    assert SCRUB_BYTES / 4.8e12 > 250e-6 and SCRUB_BYTES // 4 < MAX_ELEMENTS


def test_kernels_have_every_row_and_precision(compared):
    names = [case.name for case in kernels.cases(compared)]
    dense = sum(layer.kind == "dense" for layer in CONVOLUTIONS)
    assert len(names) == len(set(names)) == (len(CONVOLUTIONS) * (len(PRECISIONS) - 1) + dense) * len(PASSES)
    kinds = list(dict.fromkeys(layer.kind for precision, layer, _ in kernels.every_row() if precision == "bfloat16"))
    assert kinds[:2] == ["dense", "depthwise"] and names[0].endswith("bfloat16"), "what goals are about comes first"


def test_the_passes_of_a_layer_share_their_operands_and_compile_side_by_side(idle, monkeypatch):
    assert idle.own is not None
    made: list[Any] = []
    prepared: list[int] = []
    array, prepare = idle.own.array, idle.own.backend.device.prepare
    monkeypatch.setattr(idle.own, "array", lambda host, precision: made.append(precision) or array(host, precision))
    monkeypatch.setattr(
        idle.own.backend.device, "prepare", lambda kernels: prepared.append(len(kernels)) or prepare(kernels)
    )
    bare = replace(idle, ceilings=None)
    rows = rows_of(kernels, bare, "N64 C128 K128 3x3 28², forward, ") | rows_of(kernels, bare, "N1 C64 K64 3x3 56²")
    precisions = [precision for precision in PRECISIONS for _ in range(3)]
    assert made == precisions + [p for p in precisions if p != SPLIT]
    assert len(rows) == 5 + 12 and len(prepared) == 5 + 4 and min(prepared) >= 3


def test_the_summary_of_kernels_is_by_kind_and_precision(compared):
    rows = {case.name: {"ratio": {"median": 2.0}} for case in kernels.cases(compared) if ", tf32" not in case.name}
    rows["N64 C128 K128 3x3 28², forward, bfloat16"]["ratio"] = {"median": 0.5}
    found = kernels.summary(rows)
    assert found["dense, bfloat16"] == pytest.approx(2 * 0.25 ** (1 / 24))
    assert found["dense, bfloat16, least"] == 0.5
    assert found["depthwise, float32"] == found["first, float32, least"] == pytest.approx(2)
    assert found["dense, tf32"] is None and found["dense, 3xtf32"] == pytest.approx(2)


def test_errors_are_measured_for_strict_float32_only(compared):
    strict, halves = (rows_of(kernels, compared, f"C128 K128 3x3 28², forward, {p}") for p in ("float32", "bfloat16"))
    assert all({"error", "their_error"} <= row.keys() for row in strict.values())
    assert all("error" not in row for row in halves.values())


def test_pytorchs_error_is_of_the_layout_that_was_timed(compared, monkeypatch):
    found: list[Any] = []
    marks = {layout: object() for layout in LAYOUTS}
    works = iter([lambda layout=layout: marks[layout] for layout in LAYOUTS] + [lambda: "right"])
    monkeypatch.setattr(Reference, "convolution", lambda *_: next(works))
    monkeypatch.setattr(Reference, "error", lambda self, tensor, right: found.append(tensor) or 1.0)
    monkeypatch.setattr(compare, "quickest", lambda rivals, by, **_: rivals[0])
    rows_of(kernels, compared, "N64 C128 K128 3x3 28², forward, float32")
    assert found[1] is marks[LAYOUTS[0]]


def test_errors_are_summed_up_as_the_worst_row_of_the_dense_layers(compared):
    rows = {}
    for precision, layer, operation in kernels.every_row():
        errors = {"3xtf32": {"error": 3.0}, "float32": {"error": 2.0, "their_error": 4.0}}
        rows[kernels.row_name(layer, operation, precision)] = errors.get(precision, {})
    rows["N64 C128 K128 3x3 28², forward, float32"] = {"error": 5.0, "their_error": 2.0}
    found = kernels.summary(rows)
    assert found["3xtf32, error to float32's, largest"] == 1.5
    assert found["float32, error to PyTorch's, largest"] == 2.5
    del rows["N64 C128 K128 3x3 28², backward_weight, 3xtf32"]
    assert kernels.summary(rows)["3xtf32, error to float32's, largest"] is None


def test_precision_classes_are_kept_apart(compared, torch):
    seen: list[bool] = []
    torch.conv2d.side_effect = lambda *_: seen.append(torch.backends.cudnn.allow_tf32) or MagicMock()
    for precision, allowed in (("float32", False), ("tf32", True), ("bfloat16", False)):
        seen.clear()
        rows_of(kernels, compared, f"N64 C64 K64 3x3 56², forward, {precision}")
        assert set(seen) == {allowed}
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is False
    assert torch.backends.cudnn.benchmark is True


def test_pytorch_is_tried_in_every_way(compared, torch):
    rows_of(step, compared, "LeNet-5, batch 64")
    modes = [call.kwargs["mode"] for call in torch.compile.call_args_list]
    assert modes == ["max-autotune"] * 2 + ["max-autotune-no-cudagraphs"] * 2
    assert torch.cuda.CUDAGraph.call_count == 4
    assert {call.kwargs["fused"] for call in torch.optim.Adam.call_args_list} == {True}
    captured = [call.kwargs["capturable"] for call in torch.optim.Adam.call_args_list]
    assert captured == [False] * 4 + [True] * 2 + [False] * 2 + [True] * 2, "two for the memory first"


def test_an_eager_step_is_compared_with_an_eager_one(compared, torch):
    (row,) = rows_of(step, compared, "eager").values()
    assert row["theirs_way"].startswith("eager") and not torch.compile.called


def test_memory_is_what_a_step_holds_and_pytorchs_peak_beyond_what_it_held_before(compared, torch):
    name = "LeNet-5, batch 64, float32, captured"
    (row,) = rows_of(step, compared, name).values()
    assert row["their_memory"] == 2**30 - 2**20
    network = LENET5.shrunk()
    with use_backend("numpy"):
        model = network.build()
        model.compile(Adam())
    assert row["planned"] == step_memory(model, 1).total > 2 * 4 * sum(p.size for p in model.parameters())
    assert row["memory"] == 512
    assert step.summary({name: row})[f"{name}, memory, to PyTorch"] == row["their_memory"] / 512


def test_memory_is_planned_only_where_nobody_counts(compared, monkeypatch):
    monkeypatch.setattr(Own, "used_bytes", lambda self: None)
    name = "LeNet-5, batch 64, float32, captured"
    (row,) = rows_of(step, compared, name).values()
    assert row["planned"] > 0 and row["memory"] is None
    assert step.summary({name: row})[f"{name}, memory, to PyTorch"] is None


def test_a_way_that_fails_is_said_and_the_others_compete(compared, torch):
    torch.compile.side_effect = RuntimeError("no\ncompiler")
    (row,) = rows_of(step, compared, "LeNet-5, batch 64").values()
    ways = [torch_training.WAYS[name].name for name in ("compile", "compile-graph")]
    lines = [f"PyTorch, {way}, {layout}: RuntimeError: no compiler" for way in ways for layout in LAYOUTS]
    assert row["failed"] == report.missing(row) == lines
    assert row["wall_ratio"]["median"] > 0


def test_a_way_of_mnist_that_fails_leaves_gpucnns_time(compared, torch):
    torch.compile.side_effect = RuntimeError("no compiler")
    (row,) = [case.measure() for case in mnist.cases(compared) if case.name == "beside PyTorch, torch.compile"]
    assert row["ours_wall"] > 0 and "wall_ratio" not in row
    assert len(row["failed"]) == 2 and row["failed"][0].endswith("no compiler")


def test_ways_that_are_left_out_are_not_tried(compared, torch):
    some = replace(compared, ways=(torch_training.EAGER, torch_training.WAYS["graph"]))
    rows_of(step, some, "LeNet-5, batch 64")
    rows_of(block, some)
    assert len(rows_of(mnist, some)) == 2 and not torch.compile.called
    assert torch.cuda.CUDAGraph.called


def test_mnist_finds_the_ratio_to_eager_and_to_the_best(compared):
    found = mnist.summary(
        {
            f"beside PyTorch, {way}": {"wall_ratio": {"median": ratio}, "ours_wall": 0.01, "accuracy": 0.99}
            for way, ratio in zip(("eager", "CUDA graph", "torch.compile"), (12.0, 4.0, 6.0), strict=True)
        }
    )
    assert found == {"ratio to PyTorch eager": 12, "ratio to PyTorch's best": 4, "seconds": 0.01, "accuracy": 0.99}


def test_mnist_sides_take_turns_at_being_first():
    order: list[str] = []

    class Side:
        def __init__(self, name: str, seconds: float) -> None:
            self.name, self.seconds = name, seconds

        def start(self, seed: int) -> None:
            order.append(f"{self.name}{seed}")

        def run(self) -> float:
            return self.seconds

        def accuracy(self, test: Any) -> float:
            return 0.5

    sides = [Side("a", 1.0), Side("b", 2.0)]
    found = [mnist._turns(sides, (np.zeros(0), np.zeros(0)), seed) for seed in (0, 1)]
    assert order == ["a0", "b0", "b1", "a1"]
    assert found == [[(1.0, 0.5), (2.0, 0.5)]] * 2


@pytest.mark.skipif(EMULATED is not None, reason=f"emulated: {EMULATED}")
def test_a_captured_epoch_starts_from_the_same_weights_each_time():
    rng = np.random.default_rng(0)
    train = rng.standard_normal((8, 28, 28, 1), np.float32), (np.arange(8) % 8).astype(np.int32)
    with use_backend("emulated"):
        run = mnist.OwnRun(Own(backends.get_backend(), 256), RECORD.shrunk(), train, 4, 2)
        weights = []
        for seed in (1, 2, 1):
            run.start(seed)
            before = run.model.state_dict()
            run.run()
            weights.append(run.model.state_dict())
            assert any((before[name] != value).any() for name, value in weights[-1].items())
    first, other, again = weights
    assert all(first[name].tobytes() == value.tobytes() for name, value in again.items())
    assert any((first[name] != value).any() for name, value in other.items())


def test_ceilings_are_measured_once(idle):
    assert idle.ceilings is not None
    first = idle.ceilings.bytes_per_second(), idle.ceilings.flops("float32")
    assert first == (idle.ceilings.bytes_per_second(), idle.ceilings.flops("float32"))
    assert idle.ceilings.facts() == {"copy": first[0], "float32": first[1]}


def test_products_for_the_ceilings_are_of_random_values(idle, torch, monkeypatch):
    Reference("cuda").product(4, "bfloat16")
    assert torch.randn.call_count == 2 and not torch.ones.called
    hosts: list[np.ndarray] = []
    own = Own(KernelBackend(NullDevice(limits_of(90))), 64)
    monkeypatch.setattr(own.backend, "from_host", lambda host: hosts.append(host) or host)
    own.product(4, "bfloat16")
    assert [len(np.unique(host)) > 8 for host in hosts] == [True, True]


def test_overhead_counts_launches(idle):
    rows = rows_of(overhead, idle)
    launches = {name: row["launches"] for name, row in rows.items()}
    assert launches["a launch through the guard"] == launches["a convolution of the backend"] == 1
    assert launches["LeNet-5 step, batch 128, eager"] > 5
    assert all(value > 0 for value in overhead.summary(rows).values())


def test_a_replay_needs_a_device(idle):
    with pytest.raises(DeviceError, match="needs a device that launches kernels"):
        rows_of(overhead, replace(idle, own=None), "replayed")


def test_a_replay_on_the_cpu_is_not_taken_for_pythons(idle):
    own = Own(KernelBackend(NullDevice(limits_of(90))), 64)
    with pytest.raises(DeviceError, match="a replay on this device computes in the calling thread"):
        rows_of(overhead, replace(idle, own=own), "replayed")


@pytest.mark.skipif(EMULATED is not None, reason=f"emulated: {EMULATED}")
def test_what_gpucnn_times_is_right():
    layer = replace(CONVOLUTIONS[4], n=1, c=3, k=4, image=5)
    rng = np.random.default_rng(0)
    x, weight, dy = (rng.standard_normal(s, np.float32) for s in (layer.x_shape, layer.weight_shape, (1, 5, 5, 4)))
    geometry = Geometry(pads=(1, 1, 1, 1))
    expected = (
        forward(x, weight, None, geometry),
        backward_input(dy, weight, x.shape, geometry),
        backward_weight(dy, x, weight.shape, geometry),
    )
    with use_backend("emulated"):
        own = Own(backends.get_backend(), 256)
        for operation, exact in zip(PASSES, expected, strict=True):
            operands = [own.array(host, "float32") for host in (x, weight, dy)]
            found = own.backend.to_host(own.convolution(layer, operation, "float32", *operands)())
            np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
        spec = Pool2dSpec.of("max", (1, 4, 4, 1), 2, "float32")
        images = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
        dx = own.pooling(spec, images, np.ones((1, 2, 2, 1), np.float32), "float32")()
        assert np.flatnonzero(own.backend.to_host(dx)).tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize(("section", "wanted"), [(step, "LeNet-5, batch 64"), (mnist, "torch.compile in")])
def test_what_was_compiled_is_forgotten_once_before_any_of_a_cases_models(section, wanted, compared, torch):
    rows_of(section, compared, wanted)
    called = [name for name, *_ in torch.mock_calls if name in ("compiler.reset", "compile")]
    assert called == ["compiler.reset", *["compile"] * (4 if section is step else 2)]
    assert {call.kwargs["dynamic"] for call in torch.compile.call_args_list} == {False}


def test_the_second_run_of_a_layout_judges_it():
    class Side:
        def __init__(self, *seconds: float) -> None:
            self.seconds = list(seconds)

        def start(self, seed: int) -> None:
            pass

        def run(self) -> float:
            return self.seconds.pop(0)

        def accuracy(self, test: Any) -> float:
            return 0.5

    sides = dict(zip(LAYOUTS, (Side(1.0, 4.0), Side(9.0, 2.0)), strict=True))
    rival, failed = mnist._quicker(sides.__getitem__, torch_training.EAGER, (np.zeros(0), np.zeros(0)))
    assert rival is not None and (rival.layout, rival.seconds) == (LAYOUTS[1], 2.0) and not failed


@pytest.mark.parametrize("section", [block, kernels, pool, step], ids=lambda section: section.__name__)
def test_the_rival_is_chosen_by_the_time_whose_ratio_is_summed_up(section, compared, monkeypatch):
    judges: list[str] = []
    monkeypatch.setattr(compare, "quickest", lambda rivals, by, **_: judges.append(by) or rivals[0])
    rows_of(section, compared, {**SOME, step: "batch 64"}.get(section, ""))
    assert set(judges) == {"wall" if section is step else "device"}
