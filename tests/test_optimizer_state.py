"""What an optimizer is bound to, and the state that it keeps, saves and loads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from optimizer_steps import MAKERS, bound, feed

from gpucnn.backends import Backend
from gpucnn.optimizers import SGD, Adam
from gpucnn.parameters import Parameter


# -- binding -----------------------------------------------------------------------------------------------------------
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
    optimizer = MAKERS[case]()
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


# -- state -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", ["sgd", "momentum", "adam"])
def test_states_go_on_where_they_were(backend: Backend, case: str) -> None:
    make = MAKERS[case]
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
