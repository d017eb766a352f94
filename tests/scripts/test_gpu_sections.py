"""Parts of scripts/gpu_check.py that a run without a GPU does not reach, or would pass with anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gpu_sections import determinism, inline_ptx, worker
from gpu_sections.outcome import FAILED, Outcome
from gpu_sections.settings import Settings

from gpucnn import backends
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.cli import plans
from gpucnn.devices import nvrtc
from gpucnn.devices.null import NullDevice
from gpucnn.kernel_source import compose
from gpucnn.limits import CAPABILITIES, limits_of

PROBES = Path(inline_ptx.__file__).with_suffix(".cu")
EMULATED = backends.available("emulated")

# What each probe does, and something nearly as good.
_WRONG = (
    ("load_registers(right, b)", "load_registers(right, b); right[0] ^= right[1]"),
    ("LOAD_MATRICES(ldmatrix_x4, 4)", "LOAD_MATRICES(ldmatrix_x4_trans, 4)"),
    ("LOAD_MATRICES(ldmatrix_x4_trans, 4)", "LOAD_MATRICES(ldmatrix_x4, 4)"),
    ("LOAD_MATRICES(ldmatrix_x2, 2)", "LOAD_MATRICES(ldmatrix_x2_trans, 2)"),
    ("LOAD_MATRICES(ldmatrix_x2_trans, 2)", "LOAD_MATRICES(ldmatrix_x2, 2)"),
    ("valid[mine] != 0", "true"),
    ("store_at_once(target, value)", "target->words[0] = value.words[0] & 0xffffu"),
    ("half_bits_to_float((unsigned short)x[i])", "half_bits_to_float((unsigned short)(x[i] | 1u))"),
    ("float_to_half_bits(__uint_as_float(x[i]))", "float_to_half_bits(__uint_as_float(x[i] & 0xffffff00u))"),
    ("float_to_bfloat_bits(__uint_as_float(x[i]))", "x[i] >> 16"),
    ("to_tf32(__uint_as_float(x[i]))", "x[i] & 0xffffe000u"),
)  # fmt: skip


@pytest.mark.skipif(EMULATED is not None, reason=f"emulated: {EMULATED}")
def test_every_probe_notices_a_wrong_instruction(tmp_path, monkeypatch):
    pieces = re.split("(" + "|".join(re.escape(right) for right, _ in _WRONG) + ")", PROBES.read_text(encoding="utf-8"))
    wrong = dict(_WRONG)
    assert {piece for piece in pieces if piece in wrong} == set(wrong)
    broken = tmp_path / "inline_ptx.cu"
    broken.write_text("".join(wrong.get(piece, piece) for piece in pieces), encoding="utf-8")
    monkeypatch.setattr(inline_ptx, "_KERNELS", broken)
    outcome = Outcome(tmp_path / "outcome.json")
    with backends.use_backend("emulated"):
        monkeypatch.setattr(Settings, "activate", lambda self: backends.get_backend())
        inline_ptx.run(Settings("emulated", str(tmp_path)), outcome)
    passed = [check["name"] for check in outcome.record["checks"] if check["passed"]]
    assert outcome.record["status"] == FAILED and not passed


@pytest.mark.skipif(nvrtc.available() is not None, reason=f"NVRTC: {nvrtc.available()}")
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_probes_compile_for_every_architecture(capability):
    module = nvrtc.compile_module(compose(str(PROBES), {}), f"sm_{capability}")
    assert len(module.reports) == 19 and not module.warnings


def test_determinism_is_also_of_products_on_tensor_cores(monkeypatch):
    monkeypatch.setitem(plans.STEPS, "trial", determinism._tensor_cores)
    rows = plans.plan_rows(KernelBackend(NullDevice(limits_of(90)), tune="off"), "trial", 64, "mixed_bfloat16")
    chosen = {row["operation"]: row["plan"] for row in reversed(rows)}
    assert all(chosen[f"conv2d_{p}"].startswith("tensor_core") for p in ("backward_input", "backward_weight"))
    assert sum("bfloat16" in row["spec"] and row["plan"].startswith("tensor_core") for row in rows) > 8


def test_a_result_that_differs_is_noticed(tmp_path, monkeypatch):
    losses = iter(range(100))
    monkeypatch.setattr(determinism, "call", lambda train, settings: {"weights": train.__name__, "loss": next(losses)})
    outcome = Outcome(tmp_path / "outcome.json")
    determinism.run(Settings("emulated", str(tmp_path)), outcome)
    assert outcome.record["status"] == FAILED and not outcome.record["finding"]
    failing = [check["name"] for check in outcome.record["checks"] if not check["passed"]]
    assert failing == ["LeNet-5, float32: 3 runs with one seed", "wider network, bfloat16: 3 runs with one seed"]


def test_a_failed_fresh_process_says_why(tmp_path):
    said = "write ended with status 1 in a fresh process: .*no attribute 'write'"
    with pytest.raises(RuntimeError, match=said):
        worker.call(Settings.write, Settings("emulated", str(tmp_path)))
