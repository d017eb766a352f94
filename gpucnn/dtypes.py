"""The floating types that arrays and kernels share, and the names they go by."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

FLOATING = ("float32", "float64", "float16", "bfloat16")
_KERNEL_TYPES = {
    "float32": "float",
    "float64": "double",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "uint8": "unsigned char",
    "int8": "signed char",
    "int32": "int",
    "int64": "long long",
    "uint32": "unsigned",
    "uint64": "unsigned long long",
}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of a name, e.g. "float32" or "bfloat16".

    Raises:
        TypeError: "bfloat16" without the ml_dtypes package.
    """
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError("bfloat16 needs the ml_dtypes package: pip install ml_dtypes") from None
        brain: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return brain
    return np.dtype(name)


@lru_cache(maxsize=64)
def name_of(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype: `dtype.name`, which NumPy works out anew at every call."""
    return str(dtype.name)


def accumulator(name: str) -> str:
    """Return the type that sums are kept in: float64 for float64, else float32."""
    return "float64" if name == "float64" else "float32"


def kernel_type(name: str) -> str:
    """Return the CUDA C++ spelling of a type, as `common.cuh` defines it."""
    return _KERNEL_TYPES[name]


def of_kernel_type(spelled: str) -> str:
    """Return the name of a CUDA C++ element type; KeyError when it is not one that arrays have."""
    return {kernel: name for name, kernel in _KERNEL_TYPES.items()}[spelled]


def require_floating(dtype: Any, what: str) -> str:
    """Return the name of a floating dtype; TypeError, naming `what`, for any other."""
    name = name_of(np.dtype(dtype))
    if name not in FLOATING:
        raise TypeError(f"{what} must be {', '.join(FLOATING[:-1])} or {FLOATING[-1]}, got {name}")
    return name


def epsilon(name: str) -> float:
    """Return the distance from 1 to the next number of a type, or of the operands' precision "tf32"."""
    return {"float64": 2.0**-52, "float32": 2.0**-23, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}[name]
