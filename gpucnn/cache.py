"""Where compiled kernels and tuning results are kept between runs."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path


def cache_directory() -> Path:
    """Return the user's cache folder, creating it.

    `GPUCNN_CACHE_DIR`, else `$XDG_CACHE_HOME/gpucnn`, else `~/.cache/gpucnn`. When that cannot be written, a temporary
    folder of this process takes its place, and a RuntimeWarning says so once.
    """
    return _usable(_wanted())


def _wanted() -> str:
    named = os.environ.get("GPUCNN_CACHE_DIR")
    if named:
        return named
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "gpucnn")


@cache
def _usable(wanted: str) -> Path:
    folder = Path(wanted).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        temporary = tempfile.mkdtemp(prefix="gpucnn-cache-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        warnings.warn(
            f"the cache folder {folder} cannot be written ({error.strerror}); using {temporary} for this process",
            RuntimeWarning,
            stacklevel=3,
        )
        return Path(temporary)
