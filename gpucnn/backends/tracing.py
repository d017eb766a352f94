"""A backend that also tells which operations it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Observer = Callable[[str, tuple[Any, ...], Any], None]
"""Takes an operation's name, its positional arguments, and its result."""


class Tracing:
    """Mixin before a Backend: hands each operation to `observer`, but not those that an operation is made of."""

    observer: Observer | None = None
    inside = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if "_forward" not in name and "_backward_" not in name and not name.endswith("_update"):
            return found

        def observed(*arguments: Any, **options: Any) -> Any:
            if self.inside or self.observer is None:
                return found(*arguments, **options)
            self.inside = True
            try:
                result = found(*arguments, **options)
            finally:
                self.inside = False
            self.observer(name, arguments, result)
            return result

        return observed
