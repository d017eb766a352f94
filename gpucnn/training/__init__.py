"""Training: captured steps, the loop over epochs, evaluation, weight files."""

from gpucnn.training.captured_step import CapturedStep, capture
from gpucnn.training.loop import History
from gpucnn.training.weights import load_weights, save_weights

__all__ = ["CapturedStep", "History", "capture", "load_weights", "save_weights"]
