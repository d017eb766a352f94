"""Model, and Sequential: layers one after another."""

from gpucnn.model.costs import LayerCost, layer_costs
from gpucnn.model.memory import PeakArray, StepMemory, step_memory
from gpucnn.model.model import Model
from gpucnn.model.saving import load_model
from gpucnn.model.sequential import Sequential

__all__ = ["LayerCost", "Model", "PeakArray", "Sequential", "StepMemory", "layer_costs", "load_model", "step_memory"]
