"""Tensors and the tape of closures that gives their gradients."""

from gpucnn.autograd.deferred import Deferred
from gpucnn.autograd.dependencies import Dependency, collected_dependencies, depend_on
from gpucnn.autograd.tape import Node, no_grad, received_leaves, record, recording
from gpucnn.autograd.tensors import Tensor, as_tensor, common_backend, from_dlpack, tensor

__all__ = [
    "Deferred", "Dependency", "Node", "Tensor", "as_tensor", "collected_dependencies", "common_backend", "depend_on",
    "from_dlpack", "no_grad", "received_leaves", "record", "recording", "tensor",
]  # fmt: skip
