"""Objects that go by their age: logs of servers, figures of past looks at the data, and pages of past rollouts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from configs.settings import RetentionSettings
from infra.registry import ModelRegistry
from infra.storage import Store

__all__ = ["dated_objects"]

LOGS = ("exposures/", "outcomes/")  # as <area>/<day>/<file>
LOOKS = ("drift/", "due/")  # as <area>/<subject>/.../<stamp>.<kind>
ROLLOUTS = "rollouts/"  # as rollouts/<model>/<entry of the promotion log>/<file>
DAY = re.compile(r"\d{8}")


def dated_objects(store: Store, settings: RetentionSettings, now: datetime) -> dict[str, list[str]]:
    """Return the keys that are older than `keep_days`, by area.

    Of drift and of answers about a retraining, the newest `keep_pages` of each subject stay however old they are, so that what has been
    silent for long still shows its past. A rollout stays as long as it is under way.
    """
    before = f"{now.astimezone(UTC) - timedelta(days=settings.keep_days):%Y%m%d}"
    found = {area: sorted(_old_logs(store, area, before)) for area in LOGS}
    found |= {area: sorted(_old_looks(store, area, before, settings.keep_pages)) for area in LOOKS}
    found[ROLLOUTS] = sorted(_old_rollouts(store, before))
    return {area: keys for area, keys in found.items() if keys}


def _old_logs(store: Store, area: str, before: str) -> Iterator[str]:
    for key in store.list(area):
        day = key.split("/")[1]
        if DAY.fullmatch(day) and day < before:
            yield key


def _old_looks(store: Store, area: str, before: str, keep: int) -> Iterator[str]:
    looks: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in store.list(area):
        stamp = key.rpartition("/")[2].partition(".")[0]
        if DAY.match(stamp):
            looks[key.split("/")[1]][stamp].append(key)
    for stamps in looks.values():
        newest = set(sorted(stamps, reverse=True)[: max(keep, 1)])
        for stamp, keys in stamps.items():
            if stamp not in newest and stamp[:8] < before:
                yield from keys


def _old_rollouts(store: Store, before: str) -> Iterator[str]:
    entries: dict[str, dict[int, str]] = {}
    underway: dict[str, int] = {}
    for key in store.list(ROLLOUTS):
        _, name, number, *rest = key.split("/")
        if not rest or not number.isdigit():
            continue
        if name not in entries:
            history = ModelRegistry(store).history(name)
            entries[name] = {entry.number: entry.when[:10].replace("-", "") for entry in history}
            rollout = history[-1].rolling_out if history else None
            underway[name] = rollout.entry if rollout is not None else 0
        when = entries[name].get(int(number))
        if when is not None and when < before and int(number) != underway[name]:
            yield key
