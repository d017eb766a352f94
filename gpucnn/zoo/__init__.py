"""Ready-made networks."""

from gpucnn.zoo.lenet import lenet5

__all__ = ["lenet5"]
