"""Which exports are old enough to go."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime

from infra.storage import Store
from tasks.export.plan import LATEST, MANIFEST, NAME, RESUME_S, TIME

__all__ = ["old_exports"]


def old_exports(destination: Store, keep: int, now: datetime) -> list[str]:
    """Return the keys of all exports but the newest complete ones of each model, with the manifest of each first.

    What `latest.json` names stays. An export that was never completed goes once nothing continues it.
    """
    exports: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    latest: dict[str, str] = {}
    for key in destination.list():
        model, _, rest = key.partition("/")
        folder, _, file = rest.partition("/")
        if folder == LATEST:
            latest[model] = str(json.loads(destination.get(key)))
        elif file and NAME.fullmatch(folder):
            exports[model][folder].append(key)
    gone: list[str] = []
    for model, folders in exports.items():
        complete = sorted(folder for folder, keys in folders.items() if f"{model}/{folder}/{MANIFEST}" in keys)
        kept = set(complete[-keep:])
        for folder, keys in folders.items():
            unfinished = folder not in complete
            if folder in kept or folder in latest.get(model, "") or (unfinished and _may_go_on(folder, now)):
                continue
            gone += sorted(keys, key=lambda key: (not key.endswith(f"/{MANIFEST}"), key))
    return gone


def _may_go_on(folder: str, now: datetime) -> bool:
    begun = datetime.strptime(folder[:16], TIME).replace(tzinfo=UTC)
    return (now - begun).total_seconds() <= RESUME_S
