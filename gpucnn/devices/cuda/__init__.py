"""A CUDA device through CuPy.

CuPy gives memory, streams, events, graphs and the launch. NVRTC is called by `gpucnn.devices.nvrtc`, for the device's
exact target where it has one (sm_90a on a 9.0), so what a GPU runs is what the tests compile without one.
"""

from __future__ import annotations

from gpucnn.devices.cuda.device import CudaDevice

__all__ = ["CudaDevice"]
