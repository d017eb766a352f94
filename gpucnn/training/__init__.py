"""Training: captured steps, the loop over epochs, evaluation, weight files."""

from gpucnn.training.captured_step import CapturedStep, capture
from gpucnn.training.interrupts import Interrupted
from gpucnn.training.progress import History, Progress
from gpucnn.training.weights import load_weights, save_weights

__all__ = ["CapturedStep", "History", "Interrupted", "Progress", "capture", "load_weights", "save_weights"]
