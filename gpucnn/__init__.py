"""gpucnn: convolutional networks on CUDA kernels of their own, with a NumPy backend that trains the same models.

Names are loaded on first use, so `import gpucnn` is quick and imports no GPU library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpucnn import (
        augment,
        callbacks,
        datasets,
        functional,
        initializers,
        layers,
        losses,
        metrics,
        optimizers,
        schedules,
        zoo,
    )
    from gpucnn.autograd import Tensor, from_dlpack, no_grad, tensor
    from gpucnn.backends import get_backend, require_gpu, set_backend, use_backend
    from gpucnn.generator import seed
    from gpucnn.model import Model, Sequential, load_model
    from gpucnn.parameters import Parameter
    from gpucnn.precision import use_precision
    from gpucnn.training import capture, load_weights, save_weights

__version__ = "0.1.0"
__all__ = [
    "Model", "Parameter", "Sequential", "Tensor", "augment", "callbacks", "capture", "datasets", "from_dlpack",
    "functional", "get_backend", "initializers", "layers", "load_model", "load_weights", "losses", "metrics", "no_grad",
    "optimizers", "require_gpu", "save_weights", "schedules", "seed", "set_backend", "tensor", "use_backend",
    "use_precision", "zoo",
]  # fmt: skip

_HOMES = {
    "Model": "model", "Sequential": "model", "Parameter": "parameters", "Tensor": "autograd", "from_dlpack": "autograd",
    "no_grad": "autograd", "tensor": "autograd", "get_backend": "backends", "require_gpu": "backends",
    "set_backend": "backends", "use_backend": "backends", "seed": "generator", "capture": "training",
    "load_model": "model", "load_weights": "training", "save_weights": "training", "use_precision": "precision",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"gpucnn.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"gpucnn.{name}")
    raise AttributeError(f"module 'gpucnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
