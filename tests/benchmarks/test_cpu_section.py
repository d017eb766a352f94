"""The section `cpu` at tiny sizes: what it runs is right, and what it finds has its place."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from reference.conv2d import Geometry, backward_input, backward_weight, forward

from gpucnn.autograd import tensor
from gpucnn.backends import use_backend
from gpucnn.backends.numpy_backend.blas_threads import BlasThreads
from gpucnn.benchmarks import cpu, textbook
from gpucnn.benchmarks.case import Conditions
from gpucnn.benchmarks.layers import CONVOLUTIONS, CPU_CONVOLUTIONS, PASSES
from gpucnn.benchmarks.networks import CNN_32_64, LENET5, RECORD
from gpucnn.benchmarks.reference_torch import LAYOUTS, Reference
from gpucnn.benchmarks.torch_training import module, step
from gpucnn.errors import DeviceError

GEOMETRY = Geometry()
TINY = Conditions(repeats=1, turn_seconds=0.0, tiny=True)


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def last(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1)


def test_the_textbook_convolves_and_differentiates():
    x, weight, dy = arrays((2, 6, 5, 3), (4, 3, 3, 3), (2, 4, 3, 4))
    y, columns = textbook.forward(first(x), first(weight))
    np.testing.assert_allclose(last(y), forward(x, weight, None, GEOMETRY), rtol=1e-4, atol=1e-5)
    dw = textbook.backward_weight(first(dy), columns)
    np.testing.assert_allclose(last(dw), backward_weight(dy, x, weight.shape, GEOMETRY), rtol=1e-4, atol=1e-5)
    dx = textbook.backward_input(first(dy), first(weight), 6, 5)
    np.testing.assert_allclose(last(dx), backward_input(dy, weight, x.shape, GEOMETRY), rtol=1e-4, atol=1e-5)


def test_the_layer_tables_are_the_ones_agreed():
    assert len(CPU_CONVOLUTIONS) == 7
    assert [layer.spec().y_shape for layer in CPU_CONVOLUTIONS[:2]] == [(64, 24, 24, 32), (64, 20, 20, 32)]
    assert len(CONVOLUTIONS) == 15 + 8
    assert len({layer.name for layer in CONVOLUTIONS}) == 23
    outputs = [layer.spec().y_shape[1:] for layer in CONVOLUTIONS[:15]]
    assert outputs == [
        (24, 24, 24), (10, 10, 16), (32, 32, 64), (112, 112, 64), (56, 56, 64), (28, 28, 128), (14, 14, 256),
        (7, 7, 512), (56, 56, 64), (56, 56, 256), (28, 28, 512), (28, 28, 128), (56, 56, 128), (14, 14, 256),
        (28, 28, 64),
    ]  # fmt: skip
    assert CONVOLUTIONS[12].name == "N64 depthwise C128 3x3 56²"


@pytest.mark.parametrize(
    ("network", "parameters"),
    [(LENET5, 61_706), (CNN_32_64, 34_826), (RECORD, 215_194)],
    ids=["LeNet-5", "CNN", "record"],
)
def test_networks_are_the_known_ones(network, parameters):
    with use_backend("numpy"):
        assert sum(p.size for p in network.build().parameters()) == parameters


def names_and_rows(conditions: Conditions, wanted: str) -> dict[str, dict]:
    return {case.name: case.measure() for case in cpu.cases(conditions) if wanted in case.name}


def test_without_pytorch_gpucnn_is_measured_alone_and_beside_the_textbook():
    rows = names_and_rows(TINY, "K32 5x5 28²")
    assert len(rows) == 4
    for row in rows.values():
        assert row["ours"] > 0 and "theirs" not in row and row["textbook_ratio"]["median"] > 0
    assert [row["threads"] for row in rows.values()] == [1, 1, 2, 2]
    found = cpu.summary(rows)
    assert set(found.values()) == {None}


def test_every_case_runs_beside_pytorch_and_the_summary_has_every_figure(torch):
    torch.get_num_threads.return_value = 7
    rows = names_and_rows(replace(TINY, cpu_reference=Reference("cpu")), "")
    assert len(rows) == 2 * (14 + 2)
    assert all(row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"] for row in rows.values())
    found = cpu.summary(rows)
    assert len(found) == 8 and all(value > 0 for value in found.values())
    counts = [call.args[0] for call in torch.set_num_threads.call_args_list]
    assert counts == [1, 7] * 16 + [2, 7] * 16


def test_figures_of_two_threads_count_for_nothing():
    row = {"threads": 2, "ratio": {"median": 3.0}, "textbook_ratio": {"median": 3.0}}
    rows = {case.name: row for case in cpu.cases(TINY)}
    assert set(cpu.summary(rows).values()) == {None}


def test_a_missing_row_leaves_its_mean_unmeasured():
    row = {"threads": 1, "ratio": {"median": 2.0}, "textbook_ratio": {"median": 2.0}}
    rows = {case.name: row for case in cpu.cases(TINY) if "2 threads" not in case.name}
    assert cpu.summary(rows)["forward and backward"] == pytest.approx(2)
    del rows[f"forward, {CPU_CONVOLUTIONS[0].name}"]
    found = cpu.summary(rows)
    assert found["forward"] is None and found["forward, 3x3, C >= 128"] == pytest.approx(2)


def test_pytorch_missing_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceError, match="PyTorch cannot be imported .*: nothing is compared with it"):
        Reference("cpu")


def test_blas_that_hides_its_threads_is_said():
    with pytest.raises(DeviceError, match="only OpenBLAS's can"), BlasThreads(None).given(2):
        pass


def test_blas_threads_are_given_and_taken_back():
    state = [4]
    threads = BlasThreads((lambda: state[0], lambda count: state.__setitem__(0, count)))
    with threads.given(2):
        assert state == [2]
    assert state == [4]


@pytest.mark.parametrize("layer", [CPU_CONVOLUTIONS[2], CONVOLUTIONS[11], CONVOLUTIONS[13], CONVOLUTIONS[14]])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pytorch_computes_each_pass(layout, layer):
    pytest.importorskip("torch")
    reference = Reference("cpu")
    layer = replace(layer, n=2, image=7)
    spec = layer.spec()
    operands = arrays(spec.x_shape, spec.weight_shape, spec.y_shape)
    x, weight, dy = operands
    geometry = Geometry(spec.stride, spec.pads, spec.dilation, spec.groups)
    exact = (
        forward(x, weight, None, geometry),
        backward_input(dy, weight, x.shape, geometry),
        backward_weight(dy, x, weight.shape, geometry),
    )
    for operation, expected in zip(PASSES, exact, strict=True):
        theirs = [reference.images(one, layout) for one in operands]
        found = reference.convolution(layer, operation, *theirs)()
        np.testing.assert_allclose(last(found.numpy()), expected, rtol=1e-4, atol=1e-3)
        right = reference.convolution(layer, operation, *(reference.images(x, layout, "float64") for x in operands))()
        error = np.abs(found.numpy() - right.numpy()).max() / np.abs(right.numpy()).max()
        assert 0 < error == pytest.approx(reference.error(found, right)) < 1e-5


@pytest.mark.parametrize("shape", [(2, 5, 4, 1), (1, 5, 4, 3), (2, 5, 5, 1)])
def test_a_layout_is_not_taken_for_the_other_whatever_the_channels(shape):
    torch = pytest.importorskip("torch")
    reference, (host,) = Reference("cpu"), arrays(shape)
    n, h, w, c = shape
    first_, last_ = (reference.images(host, layout, "bfloat16") for layout in LAYOUTS)
    assert first_.stride() == (c * h * w, h * w, w, 1) and last_.stride() == (c * h * w, 1, w * c, c)
    assert torch.equal(first_, last_) and np.allclose(last(first_.float().numpy()), host, rtol=1e-2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pytorch_computes_the_same(layout):
    pytest.importorskip("torch")
    reference = Reference("cpu")
    layer = replace(CPU_CONVOLUTIONS[2], n=2, image=5)
    x, weight, dy = arrays(layer.x_shape, layer.weight_shape, layer.spec().y_shape)
    y = reference.forward(layer, x, weight, layout)()
    np.testing.assert_allclose(last(y.numpy()), forward(x, weight, None, GEOMETRY), rtol=1e-4, atol=1e-4)
    dx, dw = reference.forward_and_backward(layer, x, weight, dy, layout)()
    np.testing.assert_allclose(last(dx.numpy()), backward_input(dy, weight, x.shape, GEOMETRY), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(last(dw.numpy()), backward_weight(dy, x, weight.shape, GEOMETRY), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [LENET5, CNN_32_64, RECORD], ids=lambda network: network.name)
def test_pytorch_trains_the_same_network(network):
    torch = pytest.importorskip("torch")
    reference = Reference("cpu")
    x = np.random.default_rng(0).random((4, *network.image), np.float32)
    y = np.array([1, 2, 3, 4], np.int32)
    with use_backend("numpy"):
        model = network.build()
        model.compile()
        own = list(model.state_dict().values())
        theirs = module(reference, network, "channels last")
        with torch.no_grad():
            for parameter, value in zip(theirs.parameters(), own, strict=True):
                if value.ndim == 4:
                    value = first(value)
                elif value.ndim == 2 and value.shape[1] in (400, 800, 1600):  # behind Flatten: gpucnn's is (H, W, C)
                    value = first(value.reshape(len(value), 5, 5, -1)).reshape(len(value), -1)
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        loss = model.train_step(tensor(x), tensor(y)).item()
    logits = theirs(reference.images(x, "channels last"))
    assert torch.nn.functional.cross_entropy(logits, reference.labels(y)).item() == pytest.approx(loss, rel=1e-5)
    trained = step(reference, network, x, y, "channels first")
    assert trained().item() > trained().item() > 0
