"""What a check finds: one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Broken", "Finding", "Report"]

SAID = 300  # characters of an error that are quoted


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    check: str
    """What the check asks for."""
    ok: bool
    says: str = ""
    """What is wrong and how to mend it, in one sentence. Empty if nothing is."""


class Broken(Exception):
    """A check found a fault. The message is the sentence of the finding."""


class Report:
    """Runs checks one after the other, and tells each outcome at once, because a later check may hang."""

    def __init__(self, begin: Callable[[str], None], tell: Callable[[Finding], None]) -> None:
        self._begin, self._tell = begin, tell
        self.faults = 0

    @contextmanager
    def check(self, what: str) -> Iterator[None]:
        """Run the block as one check. A fault, or any error of the model, becomes a finding; the next check still runs."""
        self._begin(what)
        try:
            yield
        except Broken as fault:
            self._told(Finding(what, False, str(fault)))
        except (Exception, SystemExit) as error:
            said = " ".join(str(error).split())[:SAID]
            self._told(Finding(what, False, f"It raised {type(error).__name__}: {said or 'no message'}."))
        else:
            self._told(Finding(what, True))

    def _told(self, finding: Finding) -> None:
        self.faults += not finding.ok
        self._tell(finding)
