"""Model, and Sequential: layers one after another."""

from gpucnn.model.memory import PeakArray, StepMemory, step_memory
from gpucnn.model.model import Model
from gpucnn.model.sequential import Sequential

__all__ = ["Model", "PeakArray", "Sequential", "StepMemory", "step_memory"]
