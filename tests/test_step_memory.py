"""The memory of a training step, told by the null device: what is counted, and that a real capture takes the same."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from small_network import batch, compiled

import gpucnn
from gpucnn import Model, Sequential, Tensor, plans, tensor
from gpucnn.backends import Backend
from gpucnn.layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from gpucnn.limits import limits_of
from gpucnn.losses import Loss, SparseCategoricalCrossentropy
from gpucnn.model import step_memory
from gpucnn.model.twin import twin_of
from gpucnn.optimizers import SGD, Adam
from gpucnn.schedules import Cosine
from gpucnn.specs import Conv2dSpec
from gpucnn.training import loop
from gpucnn.training.captured_step import Recording


def dense(optimizer: str | SGD = "adam") -> Sequential:
    model = Sequential([Dense(3, "softmax", input_shape=(5,))])
    model.compile(optimizer)
    return model


def test_parameters_gradients_and_moments_by_arithmetic(backend: Backend) -> None:
    """15 weights and 3 biases: two segments of 256 bytes and their flags; Adam's numbers, the rate and the clock."""
    found = step_memory(dense(), 7)
    assert (found.batch_size, found.parameters, found.gradients) == (7, 2 * 256 + 2, 512)
    assert found.moments == 2 * 512 + 4 * 4 + 4 + 3 * 4
    assert step_memory(dense(SGD(0.1)), 7).moments == 2 * 4 + 4 + 3 * 4
    assert step_memory(dense(SGD(Cosine(0.1))), 7).moments == 2 * 4 + 2 * 4 + 3 * 4, "a schedule that waits for fit"
    assert found.total == found.parameters + found.gradients + found.moments + found.layout.nbytes
    assert found.layout.peak_bytes <= found.layout.nbytes <= found.layout.requested_bytes


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_the_16_bit_copies_are_counted(backend: Backend, precision: str) -> None:
    """Half the bytes of the values; where losses are scaled the marks that apply stand beside the set ones."""
    model = dense()
    model.compile("adam", precision=precision)
    assert step_memory(model, 7).parameters == 2 * 256 + 2 * 128 + 2 + (2 if precision == "mixed_float16" else 0)


def test_a_twins_loss_scale_lives_where_the_twin_does(backend_of: Callable[[str], Backend]) -> None:
    """A copy of an array of the model's own backend would be foreign to the twin's launches."""
    model = dense()
    model.compile("adam", precision="mixed_float16")
    with gpucnn.use_backend(backend_of("emulated")):
        twin = twin_of(model, backend_of("emulated"))
        twin.train_step(np.ones((2, 5), np.float32), np.array([0, 1]))
        assert twin.optimizer.steps_taken == 1 and model.optimizer.steps_taken == 0


def test_the_peak_by_arithmetic(backend: Backend) -> None:
    """The batch, labels and logits are there; the images are written by no launch, and read by one."""
    found = {(array.shape, array.dtype): array for array in step_memory(dense(), 700).peak}
    assert found[(700, 5), "float32"].nbytes == 14000 and found[(700, 3), "float32"].nbytes == 8400
    assert found[(700,), "int32"].nbytes == 2800
    images = found[(700, 5), "float32"]
    assert images.made_by == () and images.used_by


def test_the_model_stays_as_it_is(backend: Backend) -> None:
    model = compiled("adam")
    model.train_step(*batch(0))
    before, moments, step = model.state_dict(), model.optimizer.state_dict(), model.generator.step(backend)
    found = step_memory(model, 4)
    assert found == step_memory(model, 4)
    assert model.backend is backend and model.parameters()[0].backend is backend
    assert model.generator.step(backend) == step and not any(p.pending for p in model.parameters())
    for state, now in ((before, model.state_dict()), (moments, model.optimizer.state_dict())):
        assert all((now[name] == value).all() for name, value in state.items())
    model.train_step(*batch(1))


def test_a_captured_step_takes_what_was_told(capturing: Backend) -> None:
    """Allocation for allocation, whatever the optimizer has."""
    for name in ("sgd", "adam"):
        model = compiled(name)

        def step(model: Model = model) -> Tensor:
            x = Tensor(capturing.empty((4, 6, 6, 1), "float32"), capturing)
            y = Tensor(capturing.zeros((4,), "int32"), capturing)
            return loop.train_on(model, x, y)

        recording = Recording(step, capturing)
        for _ in range(3):
            recording()
        taken = recording._graphs[1][0].layout
        assert step_memory(model, 4).layout == taken


class Twice(Model):
    """A subclass with a constant, a block in a list and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tensor(np.full(4, 2.0, np.float32))
        self.blocks = [Sequential([Dense(4, "relu"), Dropout(0.5)])]
        self.head = Dense(3)

    def call(self, x: Tensor) -> Tensor:
        return self.head(self.blocks[0](self.blocks[0](x * self.scale)))


def test_subclassed_models(backend: Backend) -> None:
    model = Twice()
    model.compile(Adam(), SparseCategoricalCrossentropy(from_logits=True))
    model.build((4,))
    assert step_memory(model, 10).total < step_memory(model, 1000).total
    assert model.blocks[0].backend is backend is model.scale.backend


def test_workspaces_are_counted(backend: Backend) -> None:
    """The largest is that of the gradient of the convolution's weight."""
    model = Sequential([Conv2D(16, 3, input_shape=(6, 6, 4)), Flatten(), Dense(3, "softmax")])
    model.compile("sgd")
    spec = Conv2dSpec.of((64, 6, 6, 4), (16, 3, 3, 4), "float32")
    plan = plans.candidates("conv2d_backward_weight", spec, limits_of(90), 16)[0]
    assert step_memory(model, 64).workspace == plan.workspace_bytes > 0


VGG_11 = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


def vgg_11(size: int) -> Sequential:
    layers: list[Layer] = []
    for width in VGG_11:
        layers.append(MaxPool2D(2) if width == "pool" else Conv2D(int(width), 3, padding="same", activation="relu"))
    layers[0].input_shape = (size, size, 3)
    model = Sequential([*layers, Flatten(), Dense(10, "softmax")])
    model.compile(SGD(0.1, 0.9))
    return model


def kept_by_pytorch(size: int, rows: int) -> int:
    """Bytes that autograd holds when the forward pass of that model ends, by its rules and not by measurement.

    Of float32 the images and each output of a convolution (ReLU in place saves its output, which is also what the next
    layer saves) and of a pool; a pool also keeps an int64 index for each element. Its backward pass needs more.
    """
    total, channels = rows * size * size * 3 * 4, 3
    for width in VGG_11:
        if width == "pool":
            size //= 2
            total += rows * size * size * channels * (4 + 8)
        else:
            channels = int(width)
            total += rows * size * size * channels * 4
    return total


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython 3.10 keeps arguments until a call returns")
def test_nothing_is_held_at_the_peak_of_a_vgg_11_step_that_no_launch_needs() -> None:
    """The list of what is there, with its reason; the whole step takes less than PyTorch keeps of the forward pass."""
    with gpucnn.use_backend("numpy"):
        found = step_memory(vgg_11(32), 128)
    large = [array for array in found.peak if array.nbytes > 1 << 16]
    assert sum(array.nbytes for array in large) > 0.99 * found.layout.peak_bytes
    reasons = {
        "activation_backward_input": {"saved", "dy", "dx"},
        "conv2d_backward_weight": {"x", "dy", "workspace"},
        "conv2d_backward_input": {"dy"},
        "pool2d_backward_input": {"argmax", "dy"},
        "conv_pool2d_backward_weight": {"x", "choice"},
        "reduce_forward": {"x"},
    }
    for array in large:
        places = [place.split(".") for place in array.used_by]
        assert places and all(any(e.startswith(r) and p in of for r, of in reasons.items()) for e, p in places), array
    outputs = [a for a in large if any(place.endswith(".saved") for place in a.used_by)]
    assert all(a.made_by[0].startswith(("conv2d_forward", "activation_forward")) for a in outputs)
    inputs = [a for a in outputs if any(place.startswith("conv2d_backward_weight") for place in a.used_by)]
    assert inputs == outputs, "no output of a convolution is kept for the pooling behind it"
    chosen = [a.dtype for a in large if any(place.endswith((".argmax", ".choice")) for place in a.used_by)]
    assert len(chosen) >= 2 and set(chosen) == {"uint8"}
    assert found.layout.nbytes < 1.05 * found.layout.peak_bytes < 0.5 * kept_by_pytorch(32, 128)


def test_summary_tells_it_when_asked(backend: Backend) -> None:
    model, lines, more = dense(), [], []
    model.summary(lines.append)
    model.summary(more.append, batch_size=7)
    assert more[: len(lines)] == lines
    told = more[len(lines) :]
    assert told[0] == "Memory of a training step, batch size 7, in MiB"
    total = step_memory(model, 7).total / 2**20
    assert told[-1].split() == ["Total", f"{total:.2f}"]
    assert len({len(line) for line in told[1:]}) == 1


class Nothing(Loss):
    def prepare(self, target: object, output_shape: tuple[int, ...], count: int) -> object:
        raise ValueError("not this")


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "binary_crossentropy", "mse"])
def test_losses_of_targets_that_are_no_labels(backend: Backend, loss: str) -> None:
    model = Sequential([Dense(3, "sigmoid" if loss.startswith("binary") else "softmax", input_shape=(5,))])
    model.compile("sgd", loss)
    assert step_memory(model, 7).layout.nbytes > 7 * (5 + 3 + 3) * 4, "samples, targets, outputs"


def test_refusals(backend: Backend) -> None:
    with pytest.raises(ValueError, match="^step_memory: the model is not built; "):
        step_memory(Sequential([Dense(3)]), 4)
    with pytest.raises(ValueError, match=r"^model: call compile\(optimizer=…, loss=…\) first$"):
        Sequential([Dense(3, "softmax", input_shape=(5,))]).summary(print, batch_size=4)
    with pytest.raises(ValueError, match="step_memory: batch_size must be"):
        step_memory(dense(), 0)
    model = dense()
    model.compile("sgd", Nothing())
    message = r"^step_memory: Nothing takes neither labels of shape \(4,\) nor arrays of shape \(4, 3\)$"
    with pytest.raises(ValueError, match=message):
        step_memory(model, 4)
