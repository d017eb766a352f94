"""A forward pass rehearsed: what training would refuse is refused before anything is changed."""

from __future__ import annotations

from gpucnn.autograd import Tensor, no_grad
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.devices.null import NullDevice
from gpucnn.layers import BatchNormalization
from gpucnn.limits import limits_of
from gpucnn.model.model import Model
from gpucnn.model.twin import twin_of


def refuse_single_values(model: Model, rows: int) -> None:
    """Raise what training on a batch of so many samples would where a BatchNormalization has one value a channel.

    That takes a batch of one sample. Whether a layer gets images, and whether it trains, only the model's own call
    knows: a twin makes it, on a device that launches nothing.

    Raises:
        ValueError: the layer's own.
    """
    layers = (layer for layer in model.layers_inside() if isinstance(layer, BatchNormalization))
    if rows != 1 or not any(layer.trainable for layer in layers):
        return
    backend = KernelBackend(NullDevice(limits_of(90)))
    shape, _ = model.sample_shapes("fit")
    with use_backend(backend), no_grad():
        twin = twin_of(model, backend)
        twin(Tensor(backend.empty((rows, *shape), twin.dtype), backend), training=True)
