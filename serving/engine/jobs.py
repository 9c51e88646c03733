"""Jobs that the API gives to the engine, and their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from configs.serving import AttributeValue
from serving.catalogue import Value
from serving.engine.explanations import Explanation
from serving.experiments import Assignment
from serving.state import Outcome, OutcomeLabel

__all__ = [
    "Answer",
    "EventJob",
    "EventResult",
    "Filters",
    "HistoryEvent",
    "NewEvent",
    "RecommendJob",
    "Recommended",
    "RequestTime",
    "Source",
]

Source = Literal["state", "rebuilt", "history", "cold"]
"""A stored state; a state rebuilt from the stored events; events sent with the request; nothing known."""


@dataclass(frozen=True)
class RequestTime:
    """The time that a ranking is for, and the time at which it was requested."""

    at: int  # UTC seconds
    server_now: int  # UTC seconds on this server's clock
    chosen: bool  # the client chose `at`, so the answer is not for the present

    @classmethod
    def of(cls, chosen: int | None, server_now: int) -> RequestTime:
        """Return the time that the client chose, or the present if it chose none."""
        return cls(server_now if chosen is None else chosen, server_now, chosen is not None)

    def is_hypothetical(self, tolerance_s: int) -> bool:
        """Return whether nobody sees the answer now, because its time differs from the server's by more than a clock's error."""
        return abs(self.at - self.server_now) > tolerance_s


class HistoryEvent(NamedTuple):
    """An event sent with a request. Without a time, it happened at the time of the request."""

    item: int  # its number
    time: int | None


@dataclass(frozen=True)
class Filters:
    """The items that a client wants."""

    genres: tuple[str, ...] = ()  # items with any of them; empty for all
    years: tuple[int | None, int | None] | None = None  # first and last, both inclusive
    exclude: tuple[int, ...] = ()  # numbers of items
    attributes: tuple[tuple[str, tuple[AttributeValue, ...]], ...] = ()  # items must have all of them


@dataclass(frozen=True)
class RecommendJob:
    """A request for a ranking."""

    assignment: Assignment
    k: int
    time: RequestTime
    user: int | None = None
    user_id: int | str | None = None  # as the team writes it; None if that is the number itself
    history: tuple[HistoryEvent, ...] = ()
    filters: Filters = Filters()
    likes: tuple[str, ...] = ()  # genres that a new user likes
    like_attributes: tuple[tuple[str, tuple[AttributeValue, ...]], ...] = ()
    explain: bool = False
    request_id: str = ""
    named: bool = False  # the client named the version, so no other version answers in its place
    preview: bool = False  # the user does not see the answer

    @property
    def event_count(self) -> int:
        """The number of events in the request."""
        return len(self.history)


@dataclass(slots=True)
class Recommended:
    """One item of an answer. Not frozen: creation would take four times as long, and nothing modifies an instance."""

    item_id: int | str  # as the team writes it
    title: str
    year: int | None
    genres: list[str]
    attributes: dict[str, Value] | None
    score: float
    applied_rules: list[str]
    json: str  # of the item, without the closing brace; all answers with the item share it
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Answer:
    """A ranking by exactly one version."""

    version: str
    source: Source
    detail: str  # of a cold-start answer: recent, popular, genres or attributes
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
    user_id: int | str | None = None  # as the team writes it; None if that is the number itself


@dataclass(frozen=True)
class EventJob:
    """Events of any users, in order of arrival."""

    events: tuple[NewEvent, ...]
    assignments: dict[int, Assignment] = field(default_factory=dict)  # by user

    @property
    def event_count(self) -> int:
        """The number of events in the request."""
        return len(self.events)


class EventResult(NamedTuple):
    """What became of an event."""

    outcome: Outcome | None  # None: it could not be stored, but others of its request were
    known: bool  # the version that serves its user knows its item
    version: str
    erased: bool = False  # its user was erased, so nothing is stored

    @property
    def label(self) -> OutcomeLabel | Literal["failed", "erased"]:
        """The outcome's name in the API."""
        if self.erased:
            return "erased"
        return "failed" if self.outcome is None else self.outcome.label
