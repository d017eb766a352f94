"""A stand-in for the few entry points of CuPy that `gpucnn.devices.cuda` calls, on NumPy memory.

It keeps CUDA's rules rather than its speed: work on a stream runs only when something waits for it, and only as much
as it must, so a missing event shows; a captured node knows addresses, so memory freed before a replay is an error;
waiting while a stream captures spoils the capture. A kernel is a Python function of the same name.
"""

from devices.fake_cupy.errors import CUDADriverError, CUDARuntimeError, OutOfMemoryError
from devices.fake_cupy.fake import FakeCupy
from devices.fake_cupy.streams import LAUNCH_MILLISECONDS

__all__ = ["LAUNCH_MILLISECONDS", "CUDADriverError", "CUDARuntimeError", "FakeCupy", "OutOfMemoryError"]
