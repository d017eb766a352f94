"""Many kernel texts compiled at once. Compilers run outside the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from gpucnn.errors import KernelError
from gpucnn.kernel_source import KernelSource


def compile_at_once(
    compile_entry: Callable[[KernelSource, str], Any], kernels: Iterable[tuple[KernelSource, str]]
) -> None:
    """Compile each text once, in as many threads as this process may use processors.

    A text that does not compile is left to the call that needs it, which raises its error.

    Args:
        compile_entry: a device's `compile`, which threads may call at once.
        kernels: texts and entries of theirs.
    """
    texts = dict(kernels)

    def attempt(kernel: tuple[KernelSource, str]) -> None:
        with suppress(KernelError):
            compile_entry(*kernel)

    if texts:
        with ThreadPoolExecutor(min(len(texts), _processors())) as pool:
            try:
                list(pool.map(attempt, texts.items()))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
