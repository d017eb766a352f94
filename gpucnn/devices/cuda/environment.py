"""Whether CUDA can be used here, and if not why, in one line with the remedy. The only file that imports CuPy."""

from __future__ import annotations

import os
import subprocess
import warnings
from importlib import metadata
from typing import Any

from gpucnn.errors import DeviceError
from gpucnn.limits import DeviceLimits

INSTALL = 'pip install "gpucnn[cuda13x-ctk]" (cuda12x-ctk for a CUDA 12 driver)'
MINIMUM_CUPY = 14
LOWEST_CAPABILITY = 75
EXACT_TARGETS_FROM = 90
"""The lowest capability that has an exact target, sm_90a; every later one has its own."""

_PACKAGES = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy-rocm-5-0", "cupy-rocm-7-0")


def import_cupy() -> Any:
    """Return the cupy module.

    Raises:
        DeviceError: CuPy is missing, damaged or too old, or there is no driver or device for it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what CuPy warns of is refused below, with the remedy
            import cupy
    except Exception as error:
        raise DeviceError(_several_packages() or _import_failure(error)) from error
    reason = _several_packages() or _unsuitable(cupy)
    if reason is not None:
        raise DeviceError(reason)
    return cupy


def one_line(text: object, limit: int = 300) -> str:
    """Return a text as one line of at most `limit` characters, without rules of '=' and '-'."""
    line = " ".join(word for word in str(text).split() if word.strip("=-"))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def spelled(version: int) -> str:
    """Return CUDA's version number as people write it: 13020 is 13.2."""
    return f"{version // 1000}.{version % 1000 // 10}"


def device_names(runtime: Any) -> list[str]:
    """Return the names of the GPUs that this process sees."""
    return [runtime.getDeviceProperties(i)["name"].decode() for i in range(runtime.getDeviceCount())]


def memory_left(cupy: Any, runtime: Any) -> str:
    """Return how much memory of the current GPU this process uses and how much is free, for an error message."""
    pool = cupy.get_default_memory_pool()
    free, total = runtime.memGetInfo()
    used, limit = pool.used_bytes(), pool.get_limit()
    bound = f" of at most {limit:,} (CUPY_GPU_MEMORY_LIMIT)" if limit else ""
    return f"this process uses {used:,}{bound}, and {free:,} of the GPU's {total:,} are free"


def free_bytes(cupy: Any, runtime: Any) -> int:
    """Return how much memory of the current GPU CuPy may still take: the driver's and the pool's own, unused."""
    pool = cupy.get_default_memory_pool()
    free = int(runtime.memGetInfo()[0]) + int(pool.free_bytes())
    limit = int(pool.get_limit())
    return min(free, max(limit - int(pool.used_bytes()), 0)) if limit else free


def gpu_identity(runtime: Any, index: int) -> str:
    """Return the name of a GPU and, where the driver tells it, the number that no other GPU has."""
    properties = runtime.getDeviceProperties(index)
    return f"{properties['name'].decode()} {bytes(properties.get('uuid', b'')).hex()}".strip()


def facts(runtime: Any, index: int) -> dict[str, Any]:
    """Return what a report says about a GPU and the software under it."""
    return {
        "device": device_names(runtime)[index],
        "memory_gib": round(runtime.memGetInfo()[1] / 2**30, 1),
        "driver": _driver_name(),
        "driver_supports_cuda": spelled(runtime.driverGetVersion()),
        "cuda_runtime_of_cupy": spelled(runtime.runtimeGetVersion()),
    }


def _driver_name() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip().partition("\n")[0]


def device_limits(runtime: Any, index: int) -> DeviceLimits:
    """Return what a GPU allows one launch to ask for.

    Raises:
        DeviceError: the GPU is older than the oldest one supported.
    """
    properties = runtime.getDeviceProperties(index)
    capability = 10 * properties["major"] + properties["minor"]
    if capability < LOWEST_CAPABILITY:
        raise DeviceError(
            f"cuda:{index} ({properties['name'].decode()}) has compute capability {capability / 10}, "
            f"gpucnn needs {LOWEST_CAPABILITY / 10} or newer"
        )
    return DeviceLimits(
        capability,
        runtime.deviceGetAttribute(runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, index),
        runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, index),
        (f"sm_{capability}a",) if capability >= EXACT_TARGETS_FROM else (),
    )


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _several_packages() -> str | None:
    found = [name for name in _PACKAGES if _installed(name)]
    if len(found) < 2:
        return None
    return (
        f"{len(found)} CuPy packages are installed ({', '.join(found)}) and overwrite each other's files: "
        f"pip uninstall {' '.join(found)}, then {INSTALL}"
    )


def _import_failure(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
        return f"CuPy is not installed: {INSTALL}"
    return f"CuPy does not import ({type(error).__name__}: {one_line(error)}); install it again: {INSTALL}"


def _unsuitable(cupy: Any) -> str | None:
    version = str(cupy.__version__)
    major = version.split(".")[0]
    if not major.isdigit() or int(major) < MINIMUM_CUPY:
        return f"CuPy {version} is too old, gpucnn needs {MINIMUM_CUPY} or newer: {INSTALL}"
    runtime = cupy.cuda.runtime
    if runtime.is_hip:
        return f"CuPy {version} is built for ROCm, gpucnn's kernels for CUDA: pip uninstall it, then {INSTALL}"
    driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if driver == 0:
        return f"CuPy {version} is installed, but there is no NVIDIA driver: see https://www.nvidia.com/drivers"
    if driver // 1000 < built // 1000:
        return (
            f"the NVIDIA driver supports CUDA {spelled(driver)}, CuPy {version} is built for CUDA {spelled(built)}: "
            f'update the driver, or pip uninstall CuPy and pip install "gpucnn[cuda{driver // 1000}x-ctk]"'
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return f"the driver reports {one_line(error)}{_visible_devices()}"
    return None if count else f"the driver sees no CUDA device{_visible_devices()}"


def _visible_devices() -> str:
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if listed is None else f"; CUDA_VISIBLE_DEVICES is {listed!r}"
