"""The promotion log: which version is the champion, now and ever before.

Entries are create-only and numbered; the champion is what the highest one names. A promotion is decided against one
entry and may only be written right after it, so of two racing runs one wins and the other has to decide again.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from configs.errors import AlreadyExistsError, ChampionMissingError, NotFoundError, VersionCorruptError
from infra.stores import Store
from tasks.registry import ModelRef, model_ref

__all__ = ["Promotion", "champion", "history", "promote", "rollback"]

Kind = Literal["promote", "rollback", "force"]


@dataclass(frozen=True)
class Promotion:
    """One entry of the log."""

    number: int  # from 1
    name: str
    version: str
    previous: str | None
    kind: Kind
    reason: str
    who: str
    when: str  # UTC, ISO 8601
    decision: dict[str, Any] = field(default_factory=dict)  # the gate's decision in short


def champion(store: Store, name: str) -> Promotion | None:
    """The newest entry, or None. Raises VersionCorruptError when the version that it names is not in the registry."""
    keys = list(store.list(f"promotions/{name}/"))
    if not keys:
        return None
    promotion = _read(store, keys[-1])
    try:
        model_ref(store, name, promotion.version)
    except NotFoundError as error:
        raise VersionCorruptError(
            f"Promotion {promotion.number} names {name} {promotion.version} as champion, but the registry has no such version. "
            "`recsys rollback --to VERSION` promotes an earlier one."
        ) from error
    return promotion


def history(store: Store, name: str) -> list[Promotion]:
    """All entries, oldest first."""
    return [_read(store, key) for key in store.list(f"promotions/{name}/")]


def promote(
    store: Store,
    name: str,
    version: str,
    *,
    expected: int,
    kind: Kind = "promote",
    reason: str,
    now: datetime,
    decision: dict[str, Any] | None = None,
) -> Promotion:
    """Make `version` the champion. `expected` is the number of the entry that the decision was taken against, 0 for none.

    Raises AlreadyExistsError when another promotion came first, NotFoundError when the version was never sealed.
    """
    model_ref(store, name, version)
    entries = history(store, name)
    previous = entries[expected - 1].version if 0 < expected <= len(entries) else None
    entry = Promotion(
        number=expected + 1,
        name=name,
        version=version,
        previous=previous,
        kind=kind,
        reason=reason,
        who=f"{_user()}@{socket.gethostname()}",
        when=now.astimezone(UTC).isoformat(timespec="seconds"),
        decision=decision or {},
    )
    try:
        store.put_new(_key(name, entry.number), json.dumps(asdict(entry), indent=2).encode())
    except AlreadyExistsError as error:
        raise AlreadyExistsError(
            f"{name} got another champion while {version} was judged (promotion {entry.number}); decide against that one: run again."
        ) from error
    return entry


def rollback(
    store: Store, name: str, *, to: str | None, reason: str, now: datetime, check: Callable[[ModelRef], None]
) -> Promotion:
    """Append an entry that returns to version `to`, or to the champion before this one.

    `check` loads the old version and raises where it does not answer as it did; then nothing is changed. Raises
    ChampionMissingError where there is nothing to return to.
    """
    entries = history(store, name)
    if not entries:
        raise ChampionMissingError(
            f"{name} has no champion yet, so there is nothing to roll back. `recsys retrain` makes the first."
        )
    current = entries[-1]
    if to is None:
        earlier = [entry.version for entry in entries if entry.version != current.version]
        if not earlier:
            raise ChampionMissingError(
                f"{name} has had one champion only, {current.version}; there is no earlier one to return to."
            )
        to = earlier[-1]
    if to == current.version:
        raise ChampionMissingError(f"{name} {to} is the champion already.")
    check(model_ref(store, name, to))
    return promote(store, name, to, expected=current.number, kind="rollback", reason=reason, now=now)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a uid that has no name
        return str(os.getuid())


def _key(name: str, number: int) -> str:
    return f"promotions/{name}/{number:08d}.json"


def _read(store: Store, key: str) -> Promotion:
    try:
        return Promotion(**json.loads(store.get(key)))
    except (ValueError, TypeError) as error:
        raise VersionCorruptError(f"The promotion log entry {store.uri(key)} is damaged ({error}).") from error
