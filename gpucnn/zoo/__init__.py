"""Ready-made networks."""

from gpucnn.zoo.convnet import mnist_convnet
from gpucnn.zoo.lenet import lenet5

__all__ = ["lenet5", "mnist_convnet"]
