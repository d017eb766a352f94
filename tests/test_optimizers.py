"""Optimizers against an implementation of the papers' formulas in float64, written here anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gpucnn import capture
from gpucnn.backends import Backend
from gpucnn.errors import DeviceError
from gpucnn.optimizers import SGD, Adam, AdamW, Optimizer, get
from gpucnn.parameters import Parameter
from gpucnn.schedules import Linear, Step

SHAPES = ((3, 5), (70,), (1,))
STEPS = 6


def gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng((11, step))
    return [rng.standard_normal(s) for s in SHAPES]


def initial() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(s) for s in SHAPES]


Reference = Iterator[None]


def sgd(p: np.ndarray, g: list[np.ndarray], rate: Any, momentum: float, nesterov: bool, decay: float) -> Reference:
    """Sutskever et al. 2013, as PyTorch writes it: the velocity is a sum of gradients, the rate multiplies it."""
    velocity = np.zeros_like(p)
    while True:
        slope = g[0] + decay * p
        velocity = momentum * velocity + slope
        p -= rate() * (slope + momentum * velocity if nesterov else velocity)
        yield


def adam(
    p: np.ndarray, g: list[np.ndarray], rate: Any, b1: float, b2: float, eps: float, decay: float, decoupled: bool
) -> Reference:
    """Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2."""
    m, v, t = np.zeros_like(p), np.zeros_like(p), 0
    while True:
        t += 1
        slope = g[0] if decoupled else g[0] + decay * p
        if decoupled:
            p -= rate() * decay * p
        m = b1 * m + (1 - b1) * slope
        v = b2 * v + (1 - b2) * slope**2
        p -= rate() * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        yield


CASES: dict[str, tuple[Callable[[], Optimizer], Callable[..., Reference], tuple[Any, ...]]] = {
    "sgd": (lambda: SGD(0.1), sgd, (0.0, False)),
    "sgd_decay": (lambda: SGD(0.1, weight_decay=0.05), sgd, (0.0, False)),
    "momentum": (lambda: SGD(0.1, 0.9), sgd, (0.9, False)),
    "nesterov_decay": (lambda: SGD(0.05, momentum=0.8, nesterov=True, weight_decay=0.02), sgd, (0.8, True)),
    "adam": (lambda: Adam(), adam, (0.9, 0.999, 1e-7)),
    "adam_decay": (lambda: Adam(0.01, 0.8, 0.95, 1e-3, 0.1), adam, (0.8, 0.95, 1e-3)),
    "adamw": (lambda: AdamW(0.02), adam, (0.9, 0.999, 1e-7)),
}


def bound(optimizer: Optimizer, backend: Backend, dtype: str, **options: Any) -> list[Parameter]:
    """Three parameters; the second is not decayed, as biases are not."""
    made = [
        Parameter(np.asarray(a, dtype), backend, name=f"p{i}", decayed=i != 1, **options)
        for i, a in enumerate(initial())
    ]
    optimizer.bind(made)
    return made


def feed(parameters: list[Parameter], step: int) -> None:
    """Give each parameter its gradient of a step, through the tape."""
    for p, g in zip(parameters, gradients(step), strict=True):
        if p.trainable:
            (p * np.asarray(g, p.dtype)).sum().backward()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_steps_equal_the_formulas(backend: Backend, case: str, dtype: str) -> None:
    """With the learning rate changed on the way."""
    make, formula, settings = CASES[case]
    optimizer = make()
    parameters = bound(optimizer, backend, dtype)
    expected, slope = initial(), [[g] for g in gradients(0)]
    decays = [0.0 if i == 1 else optimizer.weight_decay for i in range(3)]
    tail = (isinstance(optimizer, AdamW),) if formula is adam else ()
    walkers = [
        formula(p, g, lambda: optimizer.learning_rate, *settings, decay, *tail)
        for p, g, decay in zip(expected, slope, decays, strict=True)
    ]
    for step in range(STEPS):
        if step == 3:
            optimizer.learning_rate = optimizer.learning_rate * 0.3
        for held, g in zip(slope, gradients(step), strict=True):
            held[0] = g
        feed(parameters, step)
        optimizer.step()
        for walker in walkers:
            next(walker)
    eps = np.finfo(dtype).eps
    for p, e in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(p.numpy(), e, rtol=40 * eps, atol=40 * eps)


@pytest.mark.parametrize("case", ["momentum", "adam", "adamw"])
def test_frozen_parameters_stay_as_they_are(backend: Backend, case: str) -> None:
    optimizer = CASES[case][0]()
    parameters = bound(optimizer, backend, "float32")
    parameters[0].trainable = False
    kept = parameters[0].numpy()
    for step in range(2):
        feed(parameters, step)
        optimizer.step()
    np.testing.assert_array_equal(parameters[0].numpy(), kept)
    assert not np.array_equal(parameters[1].numpy(), np.float32(initial()[1]))
    moved = parameters[1].numpy()
    parameters[0].trainable, parameters[1].trainable = True, False
    feed(parameters, 2)
    optimizer.step()
    assert not np.array_equal(parameters[0].numpy(), kept)
    np.testing.assert_array_equal(parameters[1].numpy(), moved)


def test_a_parameter_without_gradient_has_gradient_zero(backend: Backend) -> None:
    """Not the gradient of an earlier step that still lies in the buffer."""
    optimizer = SGD(1.0)
    one, two = bound(optimizer, backend, "float32")[:2]
    (one.sum() + two.sum()).backward()
    optimizer.step()
    kept = two.numpy()
    one.sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(two.numpy(), kept)


def test_hyper_parameters_take_effect_when_assigned(backend: Backend) -> None:
    """They stand in device memory; a value that stayed on the host would be a silent no-op."""
    results = []
    for early in (True, False):
        optimizer = Adam(0.1, 0.5, 0.6, 1e-2, 0.3) if early else Adam()
        parameters = bound(optimizer, backend, "float32")
        if not early:
            optimizer.learning_rate, optimizer.beta_1, optimizer.beta_2 = 0.1, 0.5, 0.6
            optimizer.epsilon, optimizer.weight_decay = 1e-2, 0.3
        feed(parameters, 0)
        optimizer.step()
        results.append([p.numpy() for p in parameters])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_compiled_in_cannot_be_assigned() -> None:
    for name in ("momentum", "nesterov"):
        with pytest.raises(AttributeError):
            setattr(SGD(0.1, 0.9), name, 0.5)


@pytest.mark.parametrize(
    "make, message",
    [
        *((lambda v=v: SGD(v), "^SGD: learning_rate must be a number of at least 0, got")
          for v in (-0.1, math.nan, math.inf, "0.1", None, True)),
        (lambda: SGD(0.1, 1.0), "^SGD: momentum must be a number of at least 0 and below 1, got 1.0$"),
        (lambda: SGD(0.1, -0.5), "^SGD: momentum must be"),
        (lambda: SGD(0.1, nesterov=True), "^SGD: nesterov needs a momentum above 0$"),
        (lambda: SGD(0.1, weight_decay=-1), "^SGD: weight_decay must be"),
        (lambda: Adam(beta_1=1.0), "^Adam: beta_1 must be a number of at least 0 and below 1, got 1.0$"),
        (lambda: AdamW(beta_2=math.nan), "^AdamW: beta_2 must be"),
        (lambda: Adam(epsilon=-1e-8), "^Adam: epsilon must be"),
    ],
)  # fmt: skip
def test_n8_settings_that_make_no_sense(make: Callable[[], Optimizer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_n8_a_wrong_learning_rate_later_changes_nothing(backend: Backend) -> None:
    optimizer = SGD(0.5)
    bound(optimizer, backend, "float32")
    with pytest.raises(ValueError, match="learning_rate must be a number of at least 0, got nan"):
        optimizer.learning_rate = math.nan
    assert optimizer.learning_rate == 0.5


def test_n8_rate_zero_changes_no_parameter(backend: Backend) -> None:
    optimizer = Adam(0.0)
    parameters = bound(optimizer, backend, "float32")
    feed(parameters, 0)
    optimizer.step()
    for p, a in zip(parameters, initial(), strict=True):
        np.testing.assert_array_equal(p.numpy(), np.float32(a))


# -- schedules --------------------------------------------------------------------------------------------------------
def slope_one(optimizer: Optimizer, parameter: Parameter) -> float:
    """Take a step down a slope of 1; return how far it went."""
    before = parameter.numpy()[0]
    parameter.sum().backward()
    optimizer.step()
    return float(before - parameter.numpy()[0])


def one_parameter(optimizer: Optimizer, backend: Backend) -> Parameter:
    parameter = Parameter(np.zeros(1), backend, name="p", decayed=False)
    optimizer.bind([parameter])
    return parameter


def test_a_schedule_sets_the_rate_of_every_step(backend: Backend) -> None:
    optimizer = SGD(Linear(1.0, 4))
    p = one_parameter(optimizer, backend)
    found = []
    for _ in range(6):
        found.append((optimizer.rate, slope_one(optimizer, p)))
    expected = [1.0, 0.75, 0.5, 0.25, 0.25, 0.25]
    np.testing.assert_allclose(found, np.transpose([expected, expected]), rtol=1e-12)


def test_an_assigned_schedule_begins_with_the_next_step(backend: Backend) -> None:
    optimizer = SGD(0.5)
    p = one_parameter(optimizer, backend)
    assert slope_one(optimizer, p) == 0.5
    optimizer.learning_rate = Linear(1.0, 2)
    np.testing.assert_allclose([slope_one(optimizer, p) for _ in range(3)], [1.0, 0.5, 0.5])
    optimizer.learning_rate = 0.125
    assert slope_one(optimizer, p) == pytest.approx(0.125) and optimizer.rate == 0.125


def test_a_schedule_without_length_is_stretched_over_what_follows(backend: Backend) -> None:
    optimizer = SGD(Linear(1.0))
    p = one_parameter(optimizer, backend)
    p.sum().backward()
    with pytest.raises(RuntimeError, match=r"^SGD: the schedule Linear has no length; give it steps=…, or train with"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="Linear has no length"):
        _ = optimizer.rate
    optimizer.zero_grad()
    for length in (2, 4):
        optimizer.stretch_schedule(length)
        np.testing.assert_allclose([slope_one(optimizer, p) for _ in range(2)], [1.0, 1.0 - 1.0 / length])
    with pytest.raises(ValueError, match="stretch_schedule: steps must be an integer from 1 to"):
        optimizer.stretch_schedule(0)
    fixed = SGD(Linear(1.0, 2))
    q = one_parameter(fixed, backend)
    slope_one(fixed, q)
    fixed.stretch_schedule(100)
    assert slope_one(fixed, q) == pytest.approx(0.5), "a schedule with a length goes on"


def test_a_loaded_state_goes_on_in_the_schedule(backend: Backend) -> None:
    one, two = SGD(0.5, 0.9), SGD(Linear(1.0, 4), 0.9)
    p, q = one_parameter(one, backend), one_parameter(two, backend)
    for _ in range(3):
        slope_one(one, p)
    one.learning_rate = Linear(1.0, 4)
    slope_one(one, p)
    two.load_state_dict(one.state_dict())
    assert (two.steps_taken, two.rate) == (4, 0.75)
    q.assign(p.numpy())
    assert slope_one(two, q) == slope_one(one, p)


def test_a_captured_step_follows_a_schedule(capturing: Backend) -> None:
    """Replays count in device memory; a longer table elsewhere in memory would not be seen, so it is refused."""
    optimizer = SGD(Linear(1.0, 8))
    p = one_parameter(optimizer, capturing)

    @capture
    def step() -> None:
        p.sum().backward()
        optimizer.step()

    steps = []
    for _ in range(6):
        before = p.numpy()[0]
        step()
        steps.append(before - p.numpy()[0])
    np.testing.assert_allclose(steps, 1.0 - np.arange(6) / 8, rtol=1e-12)
    optimizer.learning_rate = Step(1.0, 2, drops=1, factor=0.5)  # fits into the table
    for want in (1.0, 0.5):
        before = p.numpy()[0]
        step()
        assert before - p.numpy()[0] == pytest.approx(want)
    optimizer.learning_rate = Linear(1.0, 9)
    with pytest.raises(DeviceError, match="the optimizer .* was configured anew since it was captured"):
        step()


# -- binding ----------------------------------------------------------------------------------------------------------
def test_binding_refusals(backend: Backend) -> None:
    with pytest.raises(RuntimeError, match=r"^Adam: call bind\(model.parameters\(\)\) before step\(\)$"):
        Adam().step()
    with pytest.raises(ValueError, match="^SGD: no parameters to optimize; is the model built"):
        SGD().bind([])
    p = Parameter(np.zeros(3, np.float32), backend)
    with pytest.raises(TypeError, match="^SGD: expected parameters, got Tensor$"):
        SGD().bind([p, p * 2.0])


def test_parameters_on_two_backends_are_refused(backend_of: Callable[[str], Backend]) -> None:
    made = [Parameter(np.zeros(3, np.float32), backend_of(name)) for name in ("numpy", "emulated")]
    with pytest.raises(ValueError, match=r"^SGD: parameters on different backends: \['emulated', 'numpy'\]$"):
        SGD().bind(made)


def test_a_rebuilt_model_needs_binding_again(backend: Backend) -> None:
    optimizer = SGD(0.1)
    parameters = bound(optimizer, backend, "float32")
    SGD(0.1).bind(parameters[:2])
    parameters[0].sum().backward()
    with pytest.raises(RuntimeError, match=r"^SGD: the parameters were packed anew since bind\(\); bind again$"):
        optimizer.step()


def test_binding_the_same_again_keeps_the_moments(backend: Backend) -> None:
    optimizer = SGD(0.1, 0.9)
    parameters = bound(optimizer, backend, "float32")
    feed(parameters, 0)
    optimizer.step()
    kept = optimizer.state_dict()
    optimizer.bind(parameters)
    assert all((kept[k] == v).all() for k, v in optimizer.state_dict().items())


@pytest.mark.parametrize("case", ["momentum", "adam"])
def test_parameters_that_stay_keep_their_moments(backend: Backend, case: str) -> None:
    """A layer that is added to a model adds its own moments, zero, and leaves the others and the step count alone."""
    optimizer = CASES[case][0]()
    parameters = bound(optimizer, backend, "float32")
    for step in range(2):
        feed(parameters, step)
        optimizer.step()
    kept = optimizer.state_dict()
    added = Parameter(np.ones(5, np.float32), backend, name="added")
    optimizer.bind([added, *parameters[1:]])
    found = optimizer.state_dict()
    assert found["step"].tolist() == [2]
    for name, value in found.items():
        if name.startswith("added."):
            assert not value.any()
        else:
            np.testing.assert_array_equal(value, kept[name], err_msg=name)
    assert not any(name.startswith(f"{parameters[0].name}.") for name in found)
    optimizer.bind([Parameter(np.ones(5, np.float32), backend, name="added")])
    assert optimizer.state_dict()["step"].tolist() == [0], "none of them was bound before"


# -- state ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", ["sgd", "momentum", "adam"])
def test_states_go_on_where_they_were(backend: Backend, case: str) -> None:
    make = CASES[case][0]
    whole, half = make(), make()
    straight, parameters = bound(whole, backend, "float32"), bound(half, backend, "float32")
    for step in range(2):
        feed(straight, step)
        whole.step()
        feed(parameters, step)
        half.step()
    fresh = make()
    copies = [Parameter(p.numpy(), backend, name=p.name, decayed=p.decayed) for p in parameters]
    fresh.bind(copies)
    fresh.load_state_dict(half.state_dict())
    feed(straight, 2)
    whole.step()
    feed(copies, 2)
    fresh.step()
    for a, b in zip(straight, copies, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_state_names(backend: Backend) -> None:
    optimizer = Adam()
    parameters = bound(optimizer, backend, "float32")
    state = optimizer.state_dict()
    assert set(state) == {"step", "schedule_begin"} | {
        f"p{i}.{m}_moment" for i in range(3) for m in ("first", "second")
    }
    assert state["step"].tolist() == [0] and state["p0.first_moment"].shape == (3, 5)
    assert Adam().state_dict() == {}
    feed(parameters, 0)
    optimizer.step()
    assert optimizer.state_dict()["step"].tolist() == [1] and state["step"].tolist() == [0]


def test_states_that_do_not_fit_change_nothing(backend: Backend) -> None:
    optimizer = SGD(0.1, 0.9)
    feed(bound(optimizer, backend, "float32"), 0)
    optimizer.step()
    good = optimizer.state_dict()
    wrong = {k: v for k, v in good.items() if k != "p0.velocity"} | {"q.velocity": good["p0.velocity"]}
    with pytest.raises(ValueError, match="^optimizer state: missing p0.velocity; unexpected q.velocity$"):
        optimizer.load_state_dict(wrong)
    with pytest.raises(ValueError, match=r"p0.velocity is \(5, 3\), expected \(3, 5\)"):
        optimizer.load_state_dict(good | {"p0.velocity": good["p0.velocity"].T, "step": np.array([9])})
    assert all((good[k] == v).all() for k, v in optimizer.state_dict().items())


def test_states_need_names_that_differ(backend: Backend) -> None:
    """Else one moment would be saved for all parameters and loaded into all."""
    optimizer = SGD(0.1, 0.9)
    optimizer.bind([Parameter(np.zeros(3, np.float32), backend), Parameter(np.ones(3, np.float32), backend)])
    with pytest.raises(ValueError, match="^optimizer state: parameters need names that differ, got "):
        optimizer.state_dict()


def test_optimizers_by_name() -> None:
    assert [type(get(n)) for n in ("sgd", "Adam", "ADAMW")] == [SGD, Adam, AdamW]
    own = SGD()
    assert get(own) is own
    with pytest.raises(ValueError, match="^unknown optimizer 'lion'; known: sgd, adam, adamw$"):
        get("lion")
    with pytest.raises(TypeError, match="^optimizer must be a name or an Optimizer, got float$"):
        get(0.1)
    with pytest.raises(TypeError, match="must be a name or an Optimizer, got type"):
        get(SGD)
