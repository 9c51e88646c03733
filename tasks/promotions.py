"""The promotion log: which version is the champion, now and ever before.

Entries are create-only and numbered; the champion is what the highest one names. A promotion is decided against one
entry and may only be written right after it, so of two racing runs one wins and the other has to decide again. An entry
holds the sha256 of its version's manifest and of the entry before it, so an edit of either is found.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from configs.errors import (
    AlreadyExistsError,
    ChampionMissingError,
    NotFoundError,
    StoreError,
    StoreUnavailableError,
    VersionCorruptError,
)
from infra.stores import Store
from tasks.registry import MOST_JSON, ModelRef, model_ref, read_json, read_manifest, verify_files

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
    manifest: str  # sha256 of the version's manifest
    after: str | None  # sha256 of the entry before; None in the first
    decision: dict[str, Any] = field(default_factory=dict)  # the gate's decision in short


_ENTRY = TypeAdapter(Promotion)


def champion(store: Store, name: str) -> Promotion | None:
    """The newest entry, or None. Raises VersionCorruptError when the version that it names is not in the registry, or not as
    it was promoted."""
    numbers = _numbers(store, name)
    if not numbers:
        return None
    promotion = _read(store, name, numbers[-1])[0]
    try:
        ref = model_ref(store, name, promotion.version)
    except NotFoundError as error:
        raise VersionCorruptError(
            f"Promotion {promotion.number} names {name} {promotion.version} as champion, but the registry has no such version. "
            "`recsys rollback --to VERSION` promotes an earlier one."
        ) from error
    _refuse_edited(ref, promotion)
    return promotion


def history(store: Store, name: str) -> list[Promotion]:
    """All entries, oldest first. Raises VersionCorruptError when one is missing, or was edited after the next was written."""
    entries: list[Promotion] = []
    digest = None
    for number in _numbers(store, name):
        entry, own = _read(store, name, number)
        if entry.after != digest:
            raise VersionCorruptError(
                f"The promotion log of {name} was changed: entry {number} was written after another entry {number - 1} than the one "
                "that is stored. Restore the entry; until then the log does not tell which versions were champions."
            )
        entries.append(entry)
        digest = own
    return entries


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

    Raises AlreadyExistsError when another promotion came first, NotFoundError when the version was never sealed,
    VersionCorruptError when it is not what was sealed.
    """
    ref = model_ref(store, name, version)
    verify_files(store, ref.prefix, read_manifest(store, name, version)["files"])
    before, digest = _read(store, name, expected) if expected else (None, None)
    entry = Promotion(
        number=expected + 1,
        name=name,
        version=version,
        previous=before.version if before else None,
        kind=kind,
        reason=reason,
        who=f"{_user()}@{socket.gethostname()}",
        when=now.astimezone(UTC).isoformat(timespec="seconds"),
        manifest=ref.digest,
        after=digest,
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
    ChampionMissingError where there is nothing to return to, VersionCorruptError where the version or the log was edited.
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
    ref = model_ref(store, name, to)
    reigns = [entry for entry in entries if entry.version == to]
    if not reigns:
        raise ChampionMissingError(
            f"{name} {to} was never champion, so there is nothing to return to. `recsys promote {to}` judges it first."
        )
    _refuse_edited(ref, reigns[-1])
    check(ref)
    try:
        return promote(store, name, to, expected=current.number, kind="rollback", reason=reason, now=now)
    except StoreUnavailableError as error:
        # Not to be tried again as it stands: if the entry was written, "the champion before" is now the one just left.
        raise StoreError(
            f"The store did not answer while {name} was rolled back to {to}, and the rollback may have taken effect. See "
            f"`recsys show champion`; where it is not {to}, run `recsys rollback --to {to}`. ({error})"
        ) from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a uid that has no name
        return str(os.getuid())


def _key(name: str, number: int) -> str:
    return f"promotions/{name}/{number:08d}.json"


def _numbers(store: Store, name: str) -> list[int]:
    """Numbers of the entries, 1 to n. Other objects beside them are none."""
    pattern = re.compile(rf"promotions/{re.escape(name)}/(\d{{8}})\.json")
    numbers = [int(match[1]) for key in store.list(f"promotions/{name}/") if (match := pattern.fullmatch(key))]
    for place, number in enumerate(numbers, 1):
        if number != place:
            raise VersionCorruptError(
                f"The promotion log of {name} has an entry {number} and none of the number {place}: entries were removed or added by "
                f"other means than a promotion. Restore {store.uri(_key(name, place))}, or remove what is not the log's."
            )
    return numbers


def _read(store: Store, name: str, number: int) -> tuple[Promotion, str]:
    """An entry and its sha256."""
    key = _key(name, number)
    what = f"The promotion log entry {store.uri(key)}"
    content = store.get(key, MOST_JSON)
    try:
        entry = _ENTRY.validate_python(read_json(content, what))
    except ValidationError as error:
        first = error.errors()[0]
        raise VersionCorruptError(f"{what} is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}).") from error
    if (entry.name, entry.number) != (name, number):
        raise VersionCorruptError(f"{what} is entry {entry.number} of {entry.name}: it was put in this one's place.")
    return entry, hashlib.sha256(content).hexdigest()


def _refuse_edited(ref: ModelRef, promotion: Promotion) -> None:
    if ref.digest != promotion.manifest:
        raise VersionCorruptError(
            f"The manifest of {ref.name} {ref.version} is not the one that promotion {promotion.number} made champion: it was changed "
            "after it was stored. The version must not be used; `recsys rollback --to VERSION` promotes an earlier one."
        )
