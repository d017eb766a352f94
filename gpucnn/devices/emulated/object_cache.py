"""Compiled objects in the user's cache folder, found by the hash of everything that went into them.

Files appear by an atomic rename, so several processes may build the same object at once, and end in a digest of their
content, so a damaged one is built again instead of loaded. The least recently used go when the folder is full.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from gpucnn.cache import cache_directory, last_use, note_stored, note_use

_ABANDONED_SECONDS = 24 * 3600
_SEAL = b"gpucnn-sealed-object:"  # ELF ignores what follows its sections


def key_of(parts: Iterable[str | bytes]) -> str:
    """Return a short hash of all parts and their boundaries."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:32]


def directory() -> Path:
    """Return the folder of the emulated device's objects, creating it."""
    return _prepared(cache_directory() / "emulated")


@cache
def _prepared(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for part in folder.glob("*.part"):  # of builds that were killed; younger ones may be under way
        if time.time() - last_use(part) < _ABANDONED_SECONDS:
            continue
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    return folder


def shared_object(name: str, build: Callable[[Path], None], folder: Path | None = None) -> Path:
    """Return the cached object of a name, building it when it is missing or damaged.

    Args:
        name: file name, holding the key.
        build: writes the object to the path it is given.
        folder: where it is kept; `directory()` by default.
    """
    path = (folder or directory()) / name
    if not is_intact(path):
        handle, temporary = tempfile.mkstemp(prefix=name, suffix=".part", dir=path.parent)
        os.close(handle)
        try:
            build(Path(temporary))
            _seal(Path(temporary))
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        note_stored(path)
    else:
        note_use(path)
    return path


def is_intact(path: Path) -> bool:
    """Say whether a file exists and ends in the digest of the rest of it."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    size = len(_SEAL) + hashlib.sha256().digest_size
    content, seal = data[:-size], data[-size:]
    return len(data) > size and seal == _SEAL + hashlib.sha256(content).digest()


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        digest = hashlib.sha256(file.read()).digest()
        file.write(_SEAL + digest)


def cached_directory(name: str, build: Callable[[Path], None]) -> Path:
    """Return the cached folder of a name; `build` fills a new one, which then appears under its name at once."""
    path = directory() / name
    if path.is_dir():
        note_use(path)
        return path
    temporary = Path(tempfile.mkdtemp(prefix=name, suffix=".part", dir=path.parent))
    try:
        build(temporary)
        temporary.rename(path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not path.is_dir():  # another process was not first: this is a real failure
            raise
    return path
