"""A model's twin on another backend: the same layers and sizes, whatever the numbers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.generator import Generator
from gpucnn.model.model import Model
from gpucnn.parameters import Parameter


def twin_of(model: Model, backend: Backend) -> Model:
    """Return a copy of a built model on another backend, its parameters all zero; the model itself stays as it is.

    What its layers hold is copied, but for arrays of a backend: parameters and tensors are made anew, and the optimizer
    starts afresh.
    """
    memo: dict[int, Any] = {id(model.backend): backend}
    for layer in model.layers_inside():
        for _, item in layer.assigned():
            if isinstance(item, Tensor):
                memo[id(item)] = _zeros_like(item, backend)
        if isinstance(layer, Model):
            memo |= {id(layer._buffers): (), id(layer._generator): Generator(0)}
            if layer._mixed is not None:
                memo[id(layer._mixed)] = layer._mixed.on(backend)
            if layer._optimizer is not None:
                memo[id(layer._optimizer)] = layer._optimizer.unbound()
    memo.pop(id(None), None)
    twin = deepcopy(model, memo)
    twin._finish_build()
    return twin


def _zeros_like(t: Tensor, backend: Backend) -> Tensor:
    if isinstance(t, Parameter):
        return t.blank(backend)
    zeros = np.zeros(t.shape, dtypes.numpy_dtype(t.dtype))
    return Tensor(backend.from_host(zeros), backend, t.requires_grad)
