"""Model, and Sequential: layers one after another."""

from gpucnn.model.model import Model
from gpucnn.model.sequential import Sequential

__all__ = ["Model", "Sequential"]
