"""Outcomes of trials on disk: `<cache folder>/tuning/<hash of the key>.json`, one file for each.

A file appears by an atomic rename, so any number of processes may write the same one; the last of them stays. It holds
the key it was written for and a digest of the rest. What is damaged, or written for another key (another device, other
kernel texts, other candidates), is as good as missing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gpucnn.backends.tuning.choice import Outcome
from gpucnn.cache import cache_directory

_log = logging.getLogger("gpucnn")


def path_of(key: Mapping[str, Any]) -> Path:
    """Return where the outcome of a key is kept."""
    return cache_directory() / "tuning" / f"{_digest(key)[:32]}.json"


def read(key: Mapping[str, Any]) -> Outcome | None:
    """Return the outcome stored for a key, or None."""
    path = path_of(key)
    try:
        stored = json.loads(path.read_bytes())
        content = stored["content"]
        if stored["digest"] != _digest(content) or content["key"] != json.loads(_text(key)):
            raise ValueError("its digest or key is another one")
        outcome = Outcome(content["plan"], content["seconds"], content["excluded"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("the tuning result %s is not usable (%s: %s); measuring again", path, type(error).__name__, error)
        return None
    return outcome


def write(key: Mapping[str, Any], outcome: Outcome) -> None:
    """Store an outcome; go on without, with one warning, where it cannot be."""
    path = path_of(key)
    content = {
        "key": key,
        "plan": outcome.plan,
        "seconds": dict(outcome.seconds),
        "excluded": dict(outcome.excluded),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"digest": _digest(content), "content": content}, file, indent=1)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        _warn_once(f"tuning results cannot be stored in {path.parent} ({error.strerror}); they last for this process")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _digest(value: Any) -> str:
    return hashlib.sha256(_text(value).encode()).hexdigest()


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
