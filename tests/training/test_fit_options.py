"""fit: which epochs, which samples, which batches."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import pytest
from dense_network import compiled, points, same, small

import gpucnn
from gpucnn.backends import Backend
from gpucnn.callbacks import Callback
from gpucnn.schedules import Linear
from gpucnn.training import Interrupted, loop


class Positions(Callback):
    """Notes what is called, and where the fit is then."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_train_begin(self, logs: dict[str, float]) -> None:
        self.calls.append(("train_begin", self.progress.epoch))

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        self.calls.append(("epoch_begin", epoch))

    def on_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        assert np.isfinite(logs["loss"]) and 0 <= logs["acc"] <= 1
        self.calls.append(("batch_end", batch, self.progress.epoch, self.progress.batch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.calls.append(("epoch_end", epoch, self.progress.epoch, tuple(logs)))

    def on_train_end(self, logs: dict[str, float]) -> None:
        self.calls.append(("train_end", self.progress.epoch, self.progress.batch, "loss" in logs))


def test_callbacks_are_called_in_turn_and_know_where_the_fit_is(backend: Backend) -> None:
    x, y = points(10)
    seen = Positions()
    compiled().fit(x, y, batch_size=4, epochs=1, verbose=0, validation_split=0.2, callbacks=[seen])
    logs = ("loss", "acc", "seconds", "images_per_second", "val_loss", "val_acc")
    assert seen.calls == [
        ("train_begin", 0), ("epoch_begin", 0), ("batch_end", 0, 0, 1), ("batch_end", 1, 0, 2),
        ("epoch_end", 0, 0, logs), ("train_end", 1, 0, True),
    ]  # fmt: skip


def test_callbacks_that_see_batches_make_every_launch_one_step_and_others_do_not(
    capturing: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Launches(Callback):
        batches = 0

        def on_launch_end(self) -> None:
            steps.append(self.progress.batch - self.batches)
            self.batches = self.progress.batch % self.progress.batches

    monkeypatch.setattr(loop, "LAUNCH_SECONDS", 1e9)
    x, y = points(40)
    for callbacks, expected in (([Launches()], [1] * 10 + [10]), ([Launches(), Positions()], [1] * 20)):
        steps: list[int] = []
        model = compiled()
        model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        assert steps == expected


def test_callbacks_change_no_bit(backend: Backend) -> None:
    x, y = points(20)
    one, two = compiled(dropout=0.3), compiled(dropout=0.3)
    one.fit(x, y, batch_size=3, epochs=3, verbose=0, callbacks=[Positions()])
    two.fit(x, y, batch_size=3, epochs=3, verbose=0)
    assert same(one.state_dict(), two.state_dict())


def test_a_split_takes_the_last_share_before_shuffling(backend: Backend) -> None:
    x, y = points(11)
    one, two = compiled(), compiled()
    split = one.fit(x, y, batch_size=3, epochs=2, verbose=0, validation_split=0.3).history
    given = two.fit(x[:7], y[:7], batch_size=3, epochs=2, verbose=0, validation_data=(x[7:], y[7:])).history
    assert same(one.state_dict(), two.state_dict())
    assert split["val_loss"] == given["val_loss"] and split["val_acc"] == given["val_acc"]


def test_a_split_takes_the_weights_along_and_classes_weigh_only_what_is_trained_on(backend: Backend) -> None:
    x, y = points(11)
    weight, classes = np.linspace(0.5, 2.0, 11), {0: 2.0, 2: 0.5}
    one, two = compiled(), compiled()
    weights = {"sample_weight": weight, "class_weight": classes}
    split = one.fit(x, y, batch_size=3, epochs=2, verbose=0, validation_split=0.3, **weights).history
    weights["sample_weight"] = weight[:7]
    held = x[7:], y[7:], weight[7:]
    given = two.fit(x[:7], y[:7], batch_size=3, epochs=2, verbose=0, validation_data=held, **weights).history
    assert same(one.state_dict(), two.state_dict())
    assert split["val_loss"] == given["val_loss"]


def test_an_initial_epoch_counts_as_in_keras_and_its_orders_are_those_of_the_numbers(backend: Backend) -> None:
    x, y = points(9)
    whole, parts, on = compiled(), compiled(), compiled()
    whole.fit(x, y, batch_size=2, epochs=3, verbose=0)
    parts.fit(x, y, batch_size=2, epochs=1, verbose=0)
    assert len(parts.fit(x, y, batch_size=2, epochs=3, initial_epoch=1, verbose=0).history["loss"]) == 2
    on.fit(x, y, batch_size=2, epochs=1, verbose=0)
    on.fit(x, y, batch_size=2, epochs=2, verbose=0)
    assert same(whole.state_dict(), parts.state_dict()) and same(whole.state_dict(), on.state_dict())
    assert whole.fit(x, y, epochs=3, initial_epoch=3, verbose=0).history == {}


def test_limited_epochs_are_the_beginnings_of_whole_ones(backend: Backend) -> None:
    x, y = points(23)
    limited, stepped = compiled(), compiled()
    held = points(30, seed=1)
    history = limited.fit(x, y, batch_size=5, epochs=2, verbose=0, limit_batches=2, validation_data=held).history
    for epoch in range(2):
        order = gpucnn.datasets.batch_order(23, seed=stepped.generator.seed, epoch=epoch)
        for rows in (order[:5], order[5:10]):
            stepped.train_step(x[rows], y[rows])
    assert same(limited.state_dict(), stepped.state_dict())
    stepped.compile(metrics=["acc"])
    assert [history["val_loss"][1], history["val_acc"][1]] == stepped.evaluate(held[0][:10], held[1][:10], batch_size=5)
    all_of_it, beyond = compiled(), compiled()
    all_of_it.fit(x, y, batch_size=5, verbose=0)
    beyond.fit(x, y, batch_size=5, verbose=0, limit_batches=5)
    assert same(all_of_it.state_dict(), beyond.state_dict())


def test_overfitting_repeats_the_first_batches(backend: Backend) -> None:
    x, y = points(23)
    one, two = compiled(), compiled()
    history = one.fit(x, y, batch_size=5, epochs=40, verbose=0, overfit_batches=2).history
    two.fit(x[:10], y[:10], batch_size=5, epochs=40, verbose=0, shuffle=False)
    assert same(one.state_dict(), two.state_dict()) and history["acc"][-1] == 1.0


def test_a_schedule_lasts_as_long_as_the_limited_fit(backend: Backend) -> None:
    model = small()
    model.compile(gpucnn.optimizers.SGD(Linear(0.1)))
    rates: list[float] = []

    class Rates(Callback):
        def on_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            rates.append(self.model.optimizer.rate)

    model.fit(*points(12), batch_size=3, epochs=2, verbose=0, limit_batches=2, callbacks=[Rates()])
    np.testing.assert_allclose(rates, [0.075, 0.05, 0.025, 0.025], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"validation_split": 1.0},
            ValueError,
            r"^fit: validation_split must be a number of at least 0 and below 1, got 1.0$",
        ),
        ({"validation_split": -0.1}, ValueError, "^fit: validation_split must be .*, got -0.1$"),
        ({"validation_split": True}, ValueError, "^fit: validation_split must be .*, got True$"),
        ({"validation_split": 0.95}, ValueError, "^fit: validation_split 0.95 of 6 samples leaves 0 to train on$"),
        ({"validation_split": 1e-17}, ValueError, "^fit: validation_split 1e-17 of 6 samples leaves 6 to train on$"),
        (
            {"validation_split": 0.5, "validation_data": points(2)},
            ValueError,
            "^fit: validation_split and validation_data exclude each other$",
        ),
        ({"initial_epoch": 2}, ValueError, "^fit: initial_epoch must be at most epochs, 1, got 2$"),
        ({"initial_epoch": -1}, ValueError, "^fit: initial_epoch must be an integer from 0"),
        ({"limit_batches": 0}, ValueError, "^fit: limit_batches must be an integer from 1"),
        ({"overfit_batches": 0}, ValueError, "^fit: overfit_batches must be an integer from 1"),
        ({"callbacks": [print]}, TypeError, "^fit: callbacks must be Callback objects, got builtin_function"),
    ],
)
def test_n8_options_that_make_no_sense_change_nothing(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with gpucnn.use_backend("numpy"):
        model = compiled()
        before = model.state_dict()
        with pytest.raises(error, match=message):
            model.fit(*points(6), verbose=0, **options)
        assert same(model.state_dict(), before)


# -- the end of a training ------------------------------------------------------------------------------------------
class Stop(Callback):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self.left -= 1
        if not self.left:
            self.model.stop_training = True


def test_a_callback_ends_the_training_after_the_launch(backend: Backend) -> None:
    """An epoch cut short is not in the history; one that is over is, with its validation."""
    x, y = points(12)
    for steps, epochs in ((4, 1), (6, 2)):
        stopped, stepped, seen = compiled(), compiled(), Positions()
        history = stopped.fit(
            x, y, batch_size=4, epochs=5, verbose=0, callbacks=[Stop(steps), seen], validation_data=(x, y)
        ).history
        assert len(history["loss"]) == len(history["val_loss"]) == epochs and stopped.epochs_done == epochs
        assert seen.calls[-1] == ("train_end", epochs, steps % 3, True)
        stepped.fit(x, y, batch_size=4, epochs=steps // 3, verbose=0)
        stepped.fit(x, y, batch_size=4, epochs=1, verbose=0, limit_batches=steps % 3) if steps % 3 else None
        assert same(stopped.state_dict(), stepped.state_dict())
    assert len(stopped.fit(x, y, epochs=1, verbose=0).history["loss"]) == 1, "the next fit is not stopped"


class Signal(Callback):
    """Sends a signal to this process within a step."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        for number in self.numbers:
            os.kill(os.getpid(), number)


class Interruptible(Callback):
    number: int | None = None

    def on_interrupt(self, number: int) -> None:
        self.number, self.at = number, (self.progress.epoch, self.progress.batch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_f9_a_signal_waits_for_the_end_of_the_launch(backend: Backend, number: signal.Signals) -> None:
    x, y = points(12)
    model, seen, twin = compiled(), Interruptible(), compiled()
    with pytest.raises(Interrupted, match=f"^stopped by {number.name}$") as caught:
        model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=[Signal(number), seen])
    assert caught.value.number == seen.number == number and seen.at == (0, 1)
    twin.fit(x, y, batch_size=4, verbose=0, limit_batches=1)
    assert same(model.state_dict(), twin.state_dict())
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)


def test_f9_a_second_ctrl_c_does_not_wait() -> None:
    with gpucnn.use_backend("numpy"), pytest.raises(KeyboardInterrupt) as caught:
        compiled().fit(*points(12), verbose=0, callbacks=[Signal(signal.SIGINT, signal.SIGINT)])
    assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_f9_ctrl_c_in_a_validation_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = points(12)
    with gpucnn.use_backend("numpy"):
        model, seen = compiled(), Interruptible()
        called: list[int] = []

        def predict(original: Any, *arguments: Any, training: bool) -> Any:
            if not training:
                called.append(1)
                os.kill(os.getpid(), signal.SIGINT)
            return original(*arguments, training=training)

        original = type(model).__call__
        monkeypatch.setattr(type(model), "__call__", lambda *a, training: predict(original, *a, training=training))
        with pytest.raises(Interrupted):
            model.fit(x, y, batch_size=4, verbose=0, callbacks=[seen], validation_data=(x, y))
    assert called == [1] and seen.at == (0, 3)


def test_f9_an_error_that_follows_a_signal_is_the_signal() -> None:
    """As of a compiler that the same Ctrl-C ended."""

    class Failing(Signal):
        def on_launch_end(self) -> None:
            raise ValueError("g++ was killed")

    with gpucnn.use_backend("numpy"), pytest.raises(Interrupted) as caught:
        compiled().fit(*points(12), verbose=0, callbacks=[Failing(signal.SIGINT)])
    assert str(caught.value.__cause__) == "g++ was killed"


def test_f9_handlers_of_the_program_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[int] = []
    earlier = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        with gpucnn.use_backend("numpy"):
            compiled().fit(*points(12), epochs=2, verbose=0, callbacks=[Signal(signal.SIGINT)])
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert received == [signal.SIGINT] * 2


def test_fit_in_another_thread_sets_no_handler() -> None:
    def fit() -> None:
        with gpucnn.use_backend("numpy"):
            losses.extend(compiled().fit(*points(12), verbose=0).history["loss"])

    losses: list[float] = []
    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert len(losses) == 1
