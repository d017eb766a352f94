"""Bring one published file over https from the first of its mirrors that serves it whole, or leave nothing behind."""

from __future__ import annotations

import http.client
import logging
import os
import secrets
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import click

from gpucnn.errors import DataError

SCHEMES = frozenset({"https"})
TIMEOUT_SECONDS = 30.0
"""Longest silence of a server."""
SLOWEST_BYTES_PER_SECOND = 2**14
"""A server that stays below this rate, after TIMEOUT_SECONDS of grace, is given up."""
_CHUNK = 2**18
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file as mirrors serve it.

    Attributes:
        name: behind a mirror's address, and on disk.
        size: in bytes.
        most: bytes taken at most; above `size` where another compression of the same content will do.
    """

    name: str
    size: int
    most: int


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to `SCHEMES` alone."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request of a redirect, or refuse it."""
        _check_scheme(newurl, "a redirect to ")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, what: str) -> None:
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise DataError(f"{what}{url}: expected an address of {' or '.join(sorted(SCHEMES))}, found {scheme or 'none'}")


def fetch(file: RemoteFile, mirrors: Sequence[str], folder: Path, check: Callable[[Path], None]) -> Path:
    """Download a file into a folder: whole and checked under its name, or not at all.

    The bytes go to a file of another name in the same folder, which takes its name only after `check` has passed, so
    that processes downloading at once never see a torn file, and neither does anyone after an interrupt.

    Args:
        file: what to download; no more than `file.most` bytes are taken.
        mirrors: addresses of folders, tried in this order.
        folder: where to put it; created.
        check: raises DataError unless the file at a path is the published one.

    Returns:
        Its path.

    Raises:
        DataError: no mirror served it (the message names each with its reason), or the folder cannot be written.
    """
    reasons = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for mirror in mirrors:
            partial = folder / f".{file.name}.{secrets.token_hex(8)}.partial"
            try:
                _receive(mirror + file.name, file, partial)
                check(partial)
                os.replace(partial, folder / file.name)
                return folder / file.name
            except DataError as error:
                # The name under which it was checked means nothing to a reader.
                reasons.append(f"{mirror} ({str(error).removeprefix(f'{partial}: ')})")
                _log.info("%s was not served by %s", file.name, reasons[-1])
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    raise DataError(f"{file.name} was served by no mirror: {', '.join(reasons)}")


def _receive(url: str, file: RemoteFile, target: Path) -> None:
    """Write what a server sends to a file; DataError for whatever keeps it from being complete."""
    chunks = _chunks(url, file)
    with open(target, "xb") as sink:
        first = next(chunks, b"")  # of a server that does not answer no progress is shown
        with _progress(file) as advance:
            for chunk in chain([first], chunks):
                sink.write(chunk)
                advance(len(chunk))
        sink.flush()
        os.fsync(sink.fileno())


def _chunks(url: str, file: RemoteFile) -> Iterator[bytes]:
    _check_scheme(url, "")
    started = time.monotonic()
    # Servers would compress the transfer, and the bytes would no longer be the published ones.
    headers = {"Accept-Encoding": "identity", "User-Agent": "gpucnn"}
    try:
        request = urllib.request.Request(url, headers=headers)
        with closing(urllib.request.build_opener(_CheckedRedirects).open(request, timeout=TIMEOUT_SECONDS)) as response:
            announced = response.headers.get("Content-Length")
            received = 0
            while chunk := response.read1(_CHUNK):
                received += len(chunk)
                if received > file.most:
                    raise DataError(f"expected at most {file.most:,} bytes, found more")
                elapsed = time.monotonic() - started
                if elapsed > TIMEOUT_SECONDS + received / SLOWEST_BYTES_PER_SECOND:
                    raise DataError(f"expected the file sooner, found {received:,} bytes in {elapsed:.0f} s")
                yield chunk
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(_reason(error)) from error
    if announced is not None and announced != str(received):
        size = f"{int(announced):,}" if announced.isdecimal() else announced
        raise DataError(f"expected {size} bytes as announced, found {received:,}: the connection dropped")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(f"{type(cause).__name__ if isinstance(cause, Exception) else 'error'}: {cause}".split())


@contextmanager
def _progress(file: RemoteFile) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while a file arrives, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    with click.progressbar(length=file.size, label=file.name, file=sys.stderr) as bar:
        yield bar.update
