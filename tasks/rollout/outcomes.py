"""What users did during a rollout, as servers have stored it from clients' reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from infra.storage import Store

__all__ = ["StoredOutcomes"]

Row = tuple[int | str, int]


class StoredOutcomes:
    """The users and times of the outcomes in `outcomes/<day>/` of a store. Each file is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, list[Row]] = {}

    def __call__(self, since: int) -> list[Row] | None:
        """Return who did something at or after a time in UTC seconds, and when. None if nobody reports outcomes."""
        first = f"{datetime.fromtimestamp(since, UTC) - timedelta(days=1):%Y%m%d}"  # a file is named by its first day
        keys = [key for key in self._store.list("outcomes/") if key.endswith(".jsonl") and key.split("/")[1] >= first]
        for key in keys:
            if key not in self._read:
                self._read[key] = list(_rows(self._store.get(key)))
        return [row for key in keys for row in self._read[key] if row[1] >= since] if keys else None


def _rows(content: bytes) -> Iterator[Row]:
    """Yield what the lines of a file say. A line without a user and a time says nothing about a rollout."""
    for line in content.splitlines():
        try:
            said = json.loads(line)
            yield said["user_id"], int(said["timestamp"])
        except (ValueError, KeyError, TypeError):
            continue
