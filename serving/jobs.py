"""What the API asks of the engine, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serving.experiments import Assignment
from serving.user_log import Outcome

__all__ = ["Advanced", "Answer", "EventJob", "HistoryEvent", "NewEvent", "Reason", "RecommendJob", "Recommended", "Source"]

Source = Literal["state", "rebuilt", "history", "cold"]
"""A kept state; a state built anew from the kept events; events given with the request; nothing known."""


@dataclass(frozen=True)
class HistoryEvent:
    """An event given with a request. Without a time it happened at the request's."""

    item: int  # raw id
    time: int | None


@dataclass(frozen=True)
class RecommendJob:
    """A ranking request; `now` is when it is asked. `timed`: the client said when, so the answer is not of this moment, and
    `asked` is what this server's clock said."""

    assignment: Assignment
    k: int
    now: int
    timed: bool = False
    user: int | None = None
    history: tuple[HistoryEvent, ...] | None = None
    genres: tuple[str, ...] = ()
    years: tuple[int | None, int | None] | None = None
    exclude: tuple[int, ...] = ()  # raw ids
    likes: tuple[str, ...] = ()  # genres that a new user says to like
    explain: bool = False
    request_id: str = ""
    asked: int | None = None  # UTC seconds; None where it is `now`
    named: bool = False  # the client named the version: no other one answers in its place


@dataclass(frozen=True)
class Reason:
    """The event of the history whose item is most like a recommended one."""

    movie_id: int
    title: str
    similarity: float


@dataclass(slots=True)
class Recommended:
    """One place of an answer. Not frozen: that takes four times as long to make, and nothing writes to one."""

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
    detail: str  # of a cold answer: recent, popular or genres
    events: int  # of the user, known to the model or not, that the answer has read
    last_event: int | None  # UTC seconds
    items: list[Recommended]
    cached: bool = False


@dataclass(frozen=True)
class NewEvent:
    """An event of a user, as it goes into the log."""

    user: int
    item: int
    time: int
    key: bytes


@dataclass(frozen=True)
class EventJob:
    """Events of any users, in the order they came."""

    events: tuple[NewEvent, ...]
    assignments: dict[int, Assignment] = field(default_factory=dict)  # of each user


@dataclass(frozen=True)
class Advanced:
    """What became of each event, and whether the version that serves its user knows its item."""

    outcomes: list[Outcome]
    known: list[bool]
    versions: list[str]
