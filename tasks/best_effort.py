"""Best-effort rendering: an error while drawing a report is logged as a warning and never fails the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["LOG", "attempt"]

P = ParamSpec("P")
T = TypeVar("T")
LOG = logging.getLogger("recsys")


def attempt(
    what: str, draw: Callable[P, T], log: logging.Logger | logging.LoggerAdapter[Any], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Return the result of `draw`. If it raises, log a warning that names `what`, with the traceback, and return None.

    Args:
        what: Name of the thing that is drawn, for the warning.
        draw: Draws it.
        log: Log for the warning.
        args: Positional arguments of `draw`.
        kwargs: Keyword arguments of `draw`.
    """
    try:
        return draw(*args, **kwargs)
    except Exception:
        log.warning("%s could not be drawn; nothing depends on it, and the run continues.", what, exc_info=True)
        return None
