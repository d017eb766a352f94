"""Callbacks: what `fit` calls between epochs and launches."""

from gpucnn.callbacks.backup import BackupAndRestore
from gpucnn.callbacks.callback import Callback, CallbackList
from gpucnn.callbacks.csv_logger import CSVLogger
from gpucnn.callbacks.learning_rate import LearningRateScheduler
from gpucnn.callbacks.model_checkpoint import ModelCheckpoint
from gpucnn.callbacks.stopping import EarlyStopping, TerminateOnNaN
from gpucnn.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "LearningRateScheduler",
    "ModelCheckpoint", "TensorBoard", "TerminateOnNaN",
]  # fmt: skip
