"""Exceptions for what an argument check cannot catch: data, files, devices and kernels."""

from __future__ import annotations


class GpucnnError(Exception):
    """Base of every exception that gpucnn defines."""


class DataError(GpucnnError):
    """A data file is missing, damaged or not what it claims to be."""


class CheckpointError(GpucnnError):
    """A weight or checkpoint file cannot be read, or does not fit the model."""


class DeviceError(GpucnnError):
    """A device or backend is missing, refused an operation, or was used against its rules."""


class KernelError(GpucnnError):
    """A kernel does not compile, or the emulated device found a fault in one.

    Args:
        message: what went wrong, with file and line where known.
        reports: the emulated device's findings, one object each; empty for other causes.
    """

    def __init__(self, message: str, reports: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.reports = reports
