"""The runtime library: built once per machine, and the structures it shares with Python (see runtime/launch.h)."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from gpucnn.devices.emulated import object_cache, toolchain
from gpucnn.errors import DeviceError

_Index = ctypes.c_uint32 * 3


class ReportRecord(ctypes.Structure):
    """A finding, as the runtime writes it."""

    _fields_ = [
        ("kind", ctypes.c_int32),
        ("line", ctypes.c_int32),
        ("file", ctypes.c_char_p),
        ("code_offset", ctypes.c_int64),
        ("other_code_offset", ctypes.c_int64),
        ("thread", _Index),
        ("block", _Index),
        ("other_thread", _Index),
        ("other_block", _Index),
        ("has_other", ctypes.c_int32),
        ("target", ctypes.c_int32),
        ("argument", ctypes.c_int32),
        ("bytes", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("target_bytes", ctypes.c_int64),
        ("other_line", ctypes.c_int32),
        ("has_thread", ctypes.c_int32),
        ("other_file", ctypes.c_char_p),
        ("message", ctypes.c_char * 160),
    ]


class ArgumentRecord(ctypes.Structure):
    """An array argument."""

    _fields_ = [
        ("host", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        ("item_bytes", ctypes.c_int32),
        ("role", ctypes.c_int32),
        ("value_index", ctypes.c_int32),
        ("direct", ctypes.c_int32),
        ("address", ctypes.c_void_p),
        ("unwritten", ctypes.c_int64),
        ("first_unwritten", ctypes.c_int64),
    ]


class SharedVariableRecord(ctypes.Structure):
    """Where a `__shared__` variable lies in the module's shared memory."""

    _fields_ = [("offset", ctypes.c_uint32), ("bytes", ctypes.c_uint32), ("internal", ctypes.c_int32)]


class LaunchRecord(ctypes.Structure):
    """One launch."""

    _fields_ = [
        ("entry", ctypes.c_void_p),
        ("touch_shared", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(ArgumentRecord)),
        ("shared_variables", ctypes.POINTER(SharedVariableRecord)),
        ("reports", ctypes.POINTER(ReportRecord)),
        ("image_low", ctypes.c_void_p),
        ("image_bytes", ctypes.c_int64),
        ("shared_anchor_offset", ctypes.c_int64),
        ("static_shared_bytes", ctypes.c_int64),
        ("timeout_seconds", ctypes.c_double),
        ("grid", _Index),
        ("block", _Index),
        ("dynamic_shared_bytes", ctypes.c_uint32),
        ("order", ctypes.c_int32),
        ("seed", ctypes.c_uint32),
        ("workers", ctypes.c_int32),
        ("check", ctypes.c_int32),
        ("allow_exit", ctypes.c_int32),
        ("poison", ctypes.c_int32),
        ("argument_count", ctypes.c_int32),
        ("shared_variable_count", ctypes.c_int32),
        ("report_capacity", ctypes.c_int32),
        ("report_count", ctypes.c_int32),
        ("ignored_kinds", ctypes.c_uint32),
        ("round_toward_zero", ctypes.c_int32),
        ("thread_switches", ctypes.c_int64),
    ]


class ParameterRecord(ctypes.Structure):
    """A parameter of an entry, as the compiler sees it."""

    _fields_ = [
        ("spelling", ctypes.c_char_p),
        ("bytes", ctypes.c_size_t),
        ("is_pointer", ctypes.c_int),
        ("is_const", ctypes.c_int),
    ]


def library_path() -> Path:
    """Return the runtime library of this machine, building it on first use."""
    return _library_in(object_cache.directory())


@cache
def _library_in(folder: Path) -> Path:
    name = _library_name()

    def build(path: Path) -> None:
        soname = f"-Wl,-soname,{name}"  # by which modules find the library that is loaded already
        flags = [*toolchain.RUNTIME_FLAGS, *toolchain.machine_flags(), soname]
        source = str(toolchain.RUNTIME / "runtime.cpp")
        toolchain.run([*flags, source, "-o", str(path)], what="the emulator's runtime library")

    return object_cache.shared_object(name, build, folder)


@cache
def _library_name() -> str:
    sources = sorted([*toolchain.RUNTIME.iterdir(), toolchain.SHIM / "runtime_abi.h"])
    flags = [*toolchain.RUNTIME_FLAGS, *toolchain.machine_flags()]
    key = object_cache.key_of([toolchain.identity(), *flags, *(s.read_bytes() for s in sources)])
    return f"libgpucnn_emulated_{key}.so"


@cache
def runtime() -> Any:
    """Load the runtime library."""
    library = ctypes.CDLL(str(library_path()))
    for record, size in ((LaunchRecord, "launch"), (ReportRecord, "report"), (ArgumentRecord, "argument"),
                         (SharedVariableRecord, "shared_variable")):  # fmt: skip
        if getattr(library, f"emulated_sizeof_{size}")() != ctypes.sizeof(record):
            raise DeviceError(f"the emulator's runtime library disagrees about the size of {record.__name__}")
    library.emulated_allocate.restype = ctypes.c_void_p
    library.emulated_allocate.argtypes = [ctypes.c_size_t]
    library.emulated_image_of.restype = ctypes.c_void_p
    library.emulated_image_of.argtypes = [ctypes.c_void_p]
    library.emulated_free.restype = None
    library.emulated_free.argtypes = [ctypes.c_void_p]
    return library
