"""Model, and Sequential: layers one after another."""

from gpucnn.model.memory import PeakArray, StepMemory, step_memory
from gpucnn.model.model import Model
from gpucnn.model.saving import load_model
from gpucnn.model.sequential import Sequential

__all__ = ["Model", "PeakArray", "Sequential", "StepMemory", "load_model", "step_memory"]
