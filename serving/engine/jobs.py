"""Jobs that the API gives to the engine, and their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serving.experiments import Assignment
from serving.state import Outcome

__all__ = ["Advanced", "Answer", "EventJob", "HistoryEvent", "NewEvent", "Reason", "RecommendJob", "Recommended", "Source"]

Source = Literal["state", "rebuilt", "history", "cold"]
"""A stored state; a state rebuilt from the stored events; events sent with the request; nothing known."""


@dataclass(frozen=True)
class HistoryEvent:
    """An event sent with a request. Without a time, it happened at the time of the request."""

    item: int  # raw id
    time: int | None


@dataclass(frozen=True)
class RecommendJob:
    """A ranking request for the time `now`.

    `timed` means that the client chose `now`, so the answer is not for the present. `asked` is the time on this server's clock.
    """

    assignment: Assignment
    k: int
    now: int
    timed: bool = False
    user: int | None = None
    history: tuple[HistoryEvent, ...] | None = None
    genres: tuple[str, ...] = ()
    years: tuple[int | None, int | None] | None = None
    exclude: tuple[int, ...] = ()  # raw ids
    likes: tuple[str, ...] = ()  # genres that a new user likes
    explain: bool = False
    request_id: str = ""
    asked: int | None = None  # UTC seconds; None if it is `now`
    named: bool = False  # the client named the version, so no other version answers in its place


@dataclass(frozen=True)
class Reason:
    """The event of the history whose item is most similar to a recommended one."""

    movie_id: int
    title: str
    similarity: float


@dataclass(slots=True)
class Recommended:
    """One item of an answer. Not frozen: creation would take four times as long, and nothing modifies an instance."""

    movie_id: int
    title: str
    year: int | None
    genres: list[str]
    score: float
    rules: list[str]
    because: Reason | None = None


@dataclass(frozen=True)
class Answer:
    """A ranking by exactly one version."""

    version: str
    source: Source
    detail: str  # of a cold-start answer: recent, popular or genres
    events: int  # events of the user that the answer is based on, including items unknown to the model
    last_event: int | None  # UTC seconds
    items: list[Recommended]
    cached: bool = False


@dataclass(frozen=True)
class NewEvent:
    """An event of a user, as it is written to the log."""

    user: int
    item: int
    time: int
    key: bytes


@dataclass(frozen=True)
class EventJob:
    """Events of any users, in order of arrival."""

    events: tuple[NewEvent, ...]
    assignments: dict[int, Assignment] = field(default_factory=dict)  # by user


@dataclass(frozen=True)
class Advanced:
    """The outcome of each event, and whether the version that serves its user knows its item."""

    outcomes: list[Outcome]
    known: list[bool]
    versions: list[str]
