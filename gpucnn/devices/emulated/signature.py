"""The parameters of an entry: types as the compiler sees them, names and in/out marks as the text spells them."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.devices.emulated.runtime_library import ParameterRecord
from gpucnn.errors import KernelError
from gpucnn.kernel_source import Parameter

INPUT, OUTPUT, INOUT = 0, 1, 2
_MOST_PARAMETERS = 128

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "bool": "bool",
    "char": "int8",
    "signed char": "int8",
    "unsigned char": "uint8",
    "short int": "int16",
    "short unsigned int": "uint16",
    "int": "int32",
    "unsigned int": "uint32",
    "long int": "int64",
    "long unsigned int": "uint64",
    "long long int": "int64",
    "long long unsigned int": "uint64",
    "float16": "float16",
    "__half": "float16",
    "__half2": "float16",
    "bfloat16": "bfloat16",
    "__nv_bfloat16": "bfloat16",
    "__nv_bfloat162": "bfloat16",
}
_VECTOR_ELEMENTS = {
    "char": "int8",
    "uchar": "uint8",
    "short": "int16",
    "ushort": "uint16",
    "int": "int32",
    "uint": "uint32",
    "long": "int64",
    "ulong": "uint64",
    "longlong": "int64",
    "ulonglong": "uint64",
    "float": "float32",
    "double": "float64",
}


@dataclass(frozen=True)
class EntryParameter:
    """One parameter.

    Args:
        name: as the text spells it.
        spelling: its type (of what it points to), for messages.
        dtype: of arrays and scalars passed for it, that of its elements for a vector such as float2; None for `void*`
            and structures.
        size: of its type (of what it points to), in bytes.
        pointer: whether it points.
        role: INPUT, OUTPUT or INOUT.
    """

    name: str
    spelling: str
    dtype: np.dtype[Any] | None
    size: int
    pointer: bool
    role: int

    def check_array(self, kernel: str, value: object) -> np.ndarray:
        """Return the array given for a pointer parameter; TypeError or ValueError when it does not fit."""
        what = f"{kernel}: argument {self.name!r}"
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{what} is a pointer and takes an array or None, got {type(value).__name__}")
        if self.dtype is not None and value.dtype != self.dtype:
            raise TypeError(f"{what} is {self.spelling}*, an array of {self.dtype}, got an array of {value.dtype}")
        if not value.flags.c_contiguous:
            raise ValueError(f"{what} is not C-contiguous: shape {value.shape}, strides {value.strides}")
        if not value.flags.aligned:
            raise ValueError(f"{what} is not aligned for {value.dtype}: address {value.ctypes.data:#x}")
        if self.role != INPUT and not value.flags.writeable:
            raise ValueError(f"{what} is written by the kernel, and the array is read-only")
        return value

    def scalar_bytes(self, kernel: str, value: object) -> bytes:
        """Return a by-value argument as it lies in memory; TypeError when it does not fit."""
        what = f"{kernel}: argument {self.name!r}"
        if self.dtype is None:
            data = value.tobytes() if isinstance(value, np.generic) else value
            if not isinstance(data, bytes) or len(data) != self.size:
                raise TypeError(f"{what} is a {self.spelling} and takes its {self.size} bytes, got {value!r:.80}")
            return data
        elements = self.size // self.dtype.itemsize
        shape = () if elements == 1 else (elements,)
        if not isinstance(value, np.generic if elements == 1 else np.ndarray) or np.shape(value) != shape:
            wanted = f"numpy.{self.dtype}(...)" if elements == 1 else f"an array of {elements} {self.dtype}"
            raise TypeError(f"{what} is {self.spelling}: pass {wanted}, got {type(value).__name__}")
        if value.dtype != self.dtype:
            raise TypeError(f"{what} is {self.spelling} ({self.dtype}), got {value.dtype}")
        return value.tobytes()


def entry_parameters(library: Any, entry: str, spelled: Sequence[Parameter]) -> tuple[EntryParameter, ...]:
    """Combine what a loaded module says of an entry with what its text says.

    Raises:
        KernelError: they disagree.
    """
    records = (ParameterRecord * _MOST_PARAMETERS)()
    function = getattr(library, f"emulated_signature_{entry}")
    function.argtypes = [ctypes.POINTER(ParameterRecord), ctypes.c_int]
    count = function(records, _MOST_PARAMETERS)
    if count != len(spelled):
        raise KernelError(f"{entry}: the compiler sees {count} parameters, the text spells {len(spelled)}")
    return tuple(_combine(record, parameter) for record, parameter in zip(records, spelled, strict=False))


def _combine(record: ParameterRecord, parameter: Parameter) -> EntryParameter:
    spelling = record.spelling.decode().rpartition("T = ")[2].rstrip("]")
    pointer = bool(record.is_pointer)
    role = INPUT
    if pointer and not record.is_const:
        role = INOUT if parameter.inout else OUTPUT
    return EntryParameter(parameter.name, spelling, _dtype(spelling), record.bytes, pointer, role)


def _dtype(spelling: str) -> np.dtype[Any] | None:
    vector = re.fullmatch(r"([a-z]+)[1-4]", spelling)
    name = _VECTOR_ELEMENTS.get(vector[1]) if vector else _DTYPES.get(spelling)
    return None if name is None else dtypes.numpy_dtype(name)
