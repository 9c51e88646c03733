"""Events of users, and a clock that a test moves."""

from __future__ import annotations

from serving.state import entry

__all__ = ["Clock", "one"]


class Clock:
    """A clock that shows `now` seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def one(user: int, item: int) -> tuple[int, bytes]:
    """Return one event of the user, with a time and an id derived from the item."""
    return user, entry(item, item, b"%08d" % item)
