"""LeNet-5 learns the drawn digits that a linear classifier cannot (see datasets/test_digits.py for the linear half)."""

from __future__ import annotations

import gpucnn
from gpucnn.backends import use_backend
from gpucnn.datasets import digits


def test_lenet5_passes_97_percent_on_digits():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    gpucnn.seed(0)
    with use_backend("numpy"):
        model = gpucnn.zoo.lenet5()
        model.compile(optimizer="adam", metrics=["acc"])
        model.fit(x_train[..., None] / 255, y_train, batch_size=64, epochs=3, verbose=0)
        accuracy = model.evaluate(x_test[..., None] / 255, y_test, batch_size=500, return_dict=True)["acc"]
    assert accuracy >= 0.97
