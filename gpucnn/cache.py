"""Where compiled kernels and tuning results are kept between runs, and how much of them."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
import time
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

MOST_BYTES = 1 << 30
"""What a folder of compiled code may hold once it was pruned, beside what was used within the last hour."""
_IN_USE_SECONDS = 3600
_BETWEEN_PRUNINGS = MOST_BYTES // 16
_temporaries: set[Path] = set()


def cache_directory() -> Path:
    """Return the user's cache folder, creating it.

    `GPUCNN_CACHE_DIR`, else `$XDG_CACHE_HOME/gpucnn`, else `~/.cache/gpucnn`. When that cannot be written, or there is
    no home, a temporary folder of this process takes its place, and a RuntimeWarning says so once.
    """
    return _usable(_wanted())


def is_temporary() -> bool:
    """Say whether the cache folder ends with this process."""
    return cache_directory() in _temporaries


def _wanted() -> str:
    named = os.environ.get("GPUCNN_CACHE_DIR")
    if not named:
        named = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "gpucnn")
    return os.path.expanduser(named)


@cache
def _usable(wanted: str) -> Path:
    folder = Path(wanted)
    try:
        if wanted.startswith("~"):
            raise FileNotFoundError(errno.ENOENT, "there is no home folder")
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        temporary = Path(tempfile.mkdtemp(prefix="gpucnn-cache-"))
        _temporaries.add(temporary)
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        warnings.warn(
            f"the cache folder {folder} cannot be written ({error.strerror}); using {temporary} for this process",
            RuntimeWarning,
            stacklevel=3,
        )
        return temporary


def note_use(path: Path) -> None:
    """Mark a file or folder of the cache as just used: the least recently used are removed first."""
    with suppress(OSError):  # it may be another user's, who marks it himself
        os.utime(path)


_stored_bytes: dict[Path, int] = {}


def note_stored(path: Path) -> None:
    """Note that a file was added to its folder, which is pruned at the first one and every so many bytes."""
    folder = path.parent
    stored = _stored_bytes.get(folder, _BETWEEN_PRUNINGS) + _size(path)
    if stored >= _BETWEEN_PRUNINGS:
        prune(folder)
        stored = 0
    _stored_bytes[folder] = stored


def prune(folder: Path, most_bytes: int | None = None) -> None:
    """Remove the least recently used entries of a folder until at most `most_bytes` (MOST_BYTES) are left.

    What was used within the last hour stays, so that no process loses what it is about to load. Several processes may
    prune at once.
    """
    limit = MOST_BYTES if most_bytes is None else most_bytes
    entries = sorted((last_use(path), _size(path), path) for path in folder.iterdir())
    left = sum(size for _, size, _ in entries)
    for _, size, path in entries:
        if left <= limit:
            return
        if time.time() - last_use(path) < _IN_USE_SECONDS:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # another process was first, or it is another user's
                path.unlink()
        left -= size


def last_use(path: Path) -> float:
    """Return when a file or folder was used last, seconds since the epoch; 0 when another process removed it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    """Return the bytes of a file or of all files in a folder; 0 when it is gone."""
    try:
        return sum(map(_size, path.iterdir())) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0
