"""SIGINT and SIGTERM that wait until a launch is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal, between two steps.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def deferred(signals: Sequence[signal.Signals]) -> Iterator[Callable[[], int | None]]:
    """Have signals wait inside the `with` block; what is yielded returns the number of one that came, or None.

    The second one raises KeyboardInterrupt at once. An exception that follows a signal, as of a compiler that the same
    Ctrl-C ended, becomes Interrupted. Signals that the program handles itself are left to it, and so are all in threads
    other than the main one, which alone may set handlers.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    ours: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in signals if signal.getsignal(number) is _DEFAULTS[number]]
    earlier = {number: signal.signal(number, note) for number in ours}
    try:
        yield lambda: received[0] if received else None
    except Exception as error:
        if received:
            raise Interrupted(received[0]) from error
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
