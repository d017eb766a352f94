"""A backend that tunes matrix products on a device with a scripted clock."""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.scripted_device import ScriptedDevice
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.tuning import Choice
from gpucnn.specs import MatmulSpec

DIRECT = ("direct/16x16x64", "direct/32x32x32", "direct/64x64x16", "direct/128x128x16", "direct/64x16x32")
GUESS = DIRECT[0]
SPLIT = "split_k/16x16x64"


def tuned(device: ScriptedDevice, mode: str = "on") -> KernelBackend:
    return KernelBackend(device, tune=mode)


def multiply(backend: KernelBackend, m: int = 64, n: int = 48, k: int = 40, **options: Any) -> np.ndarray:
    """Run one product; return what it wrote."""
    spec = MatmulSpec.of((m, k), (k, n), "float32")
    a, b = (backend.empty(shape, "float32") for shape in ((m, k), (k, n)))
    a[...], b[...] = 0.5, 2.0
    y = backend.matmul_forward(a, b, None, spec, **options)
    assert (y == k).all() and (a == 0.5).all() and (b == 2.0).all()
    return y


def choice(backend: KernelBackend) -> Choice:
    """Return the choice that was made last."""
    return backend.launcher.choices()[-1]
