"""Fits that keep their checkpoint, and the trainings that do or do not fit one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dense_network import points, small

import gpucnn
from gpucnn.callbacks import BackupAndRestore, Callback
from gpucnn.optimizers import SGD

NAME = "checkpoint.safetensors"


def fit(path: Path, model: gpucnn.Sequential | None = None, *callbacks: Callback, **options: Any) -> gpucnn.Sequential:
    """Fit two epochs of two batches, keeping the checkpoint."""
    if model is None:
        model = small()
        model.compile(SGD(0.1, 0.9), metrics=["acc"])
    backup = BackupAndRestore(path, delete_checkpoint=False, metadata={"note": "Füße"})
    settings = {"batch_size": 4, "epochs": 2, "verbose": 0} | options
    model.fit(*points(8), callbacks=[*callbacks, backup], **settings)
    return model


def fit_file(folder: Path, content: bytes) -> Path:
    (folder / NAME).write_bytes(content)
    return folder / NAME


def other(**changes: Any) -> gpucnn.Sequential:
    model = small(dropout=changes.pop("dropout", 0.0), dtype=changes.pop("dtype", "float32"))
    precision = changes.pop("precision", None)
    metrics = changes.pop("metrics", ["acc"])
    model.compile(changes.pop("optimizer", SGD(0.1, 0.9)), metrics=metrics, precision=precision, **changes)
    return model
