"""What is drawn for people may be missing; it never costs a run its result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["drawn"]

P = ParamSpec("P")
T = TypeVar("T")
LOG = logging.getLogger("recsys")


def drawn(
    what: str, draw: Callable[P, T], log: logging.Logger | logging.LoggerAdapter[Any], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """What `draw` gives; None where it raises, with a warning that names `what` and holds the traceback."""
    try:
        return draw(*args, **kwargs)
    except Exception:
        log.warning("%s could not be drawn; nothing depends on it, and the run goes on.", what, exc_info=True)
        return None
