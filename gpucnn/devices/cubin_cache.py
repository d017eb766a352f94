"""Compiled modules on disk: `<cache folder>/cubin/<key>.module`, each with a checksum that tells damaged ones.

The least recently used go when the folder is full.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path

from gpucnn.cache import cache_directory, note_stored, note_use

_log = logging.getLogger("gpucnn")
_DIGEST_BYTES = 32


def _path(key: tuple[str, ...]) -> Path:
    return cache_directory() / "cubin" / f"{hashlib.sha256(chr(0).join(key).encode()).hexdigest()}.module"


def read(key: tuple[str, ...]) -> tuple[bytes, str] | None:
    """Return the stored (cubin, log), or None when there is none or it is damaged."""
    path = _path(key)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _warn_once(f"the compiled module {path} cannot be read ({error}); compiling it again")
        return None
    digest, payload = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        _log.warning("the compiled module %s is damaged; compiling it again", path)
        return None
    note_use(path)
    length = int.from_bytes(payload[:8], "little")
    return payload[8 + length :], payload[8 : 8 + length].decode()


def write(key: tuple[str, ...], cubin: bytes, log: str) -> None:
    """Store a module so that readers see all of it or nothing; go on without, with one warning, where it cannot be."""
    path, text = _path(key), log.encode()
    payload = len(text).to_bytes(8, "little") + text + cubin
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        note_stored(path)
    except OSError as error:
        _warn_once(f"compiled modules cannot be stored in {path.parent} ({error.strerror}); this process keeps its own")


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
