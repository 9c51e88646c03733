"""What goes wrong at the double of RunPod's API, and the answers that say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "BrokenConnectionError", "Fault", "Faults", "problem"]


@dataclass
class Fault:
    """The next `times` requests of this method and path get this answer instead of their own."""

    method: str
    path: str
    status: int
    detail: str
    times: int = 1
    retry_after_s: int | None = None


@dataclass
class Faults:
    """What goes wrong. Everything may be changed at any time."""

    no_capacity: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)
    answers: list[Fault] = field(default_factory=list)
    billed: dict[str, float] = field(default_factory=dict)
    """GPU type -> price of one GPU as it is billed, if it differs from the catalogue's."""
    price_after_create: bool = False
    """Whether the answer to a create says 0 for the price."""
    lost_creates: int = 0
    """How many creates succeed although their connection breaks before the answer."""
    hidden: dict[str, int] = field(default_factory=dict)
    """Pod -> how many more lists leave it out."""
    down_until: float = 0.0
    """Monotonic time until which every connection breaks or, if `pages` is set, gets an HTML page from a proxy."""
    pages: bool = False
    start_s: float = 0.0
    """Seconds from a create to the start of the container, while the image is pulled."""
    restart_s: float = 0.2
    runtime_after_s: float = 0.0
    """Seconds for which `runtime` is null although the status says RUNNING."""
    pods_may_end_themselves: bool = True
    before: Callable[[str, str], None] = lambda method, path: None
    """Called when a request arrives. If it raises BrokenConnectionError or a `problem`, the request has no other effect."""
    after: Callable[[str, str], None] = lambda method, path: None
    """Called when a request has taken effect. If it raises, that is all the client hears."""


class BrokenConnectionError(Exception):
    """Ends a connection without an answer."""


@dataclass
class Answer(Exception):
    status: int
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def problem(status: int, detail: str, errors: list[str] | None = None, **headers: str) -> Answer:
    titles = {400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found"}
    titles |= {409: "Conflict", 413: "Content Too Large", 422: "Unprocessable Entity", 429: "Too Many Requests"}
    content = {"title": titles.get(status, "Error"), "status": status, "detail": detail}
    return Answer(status, {**content, **({"errors": errors} if errors else {})}, headers)
