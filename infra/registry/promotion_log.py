"""Read the promotion log: which version is the champion, and which versions were champions before.

Entries are numbered from 1 and never change. The entry with the highest number names the champion. An entry holds the sha256
of its version's manifest and of the previous entry, so an edit to either is detected.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from configs.errors import NotFoundError, VersionCorruptError
from infra.registry.versions import MOST_JSON, ModelRef, model_ref, read_json
from infra.storage import Store

__all__ = ["Promotion", "PromotionKind", "champion", "entry_key", "history", "newest", "read_entry", "refuse_edited"]

PromotionKind = Literal["promote", "rollback", "force"]


@dataclass(frozen=True)
class Promotion:
    """One entry of the log."""

    number: int  # from 1
    name: str
    version: str
    previous: str | None
    kind: PromotionKind
    reason: str
    who: str
    when: str  # UTC, ISO 8601
    manifest: str  # sha256 of the version's manifest
    after: str | None  # sha256 of the previous entry; None in the first
    decision: dict[str, Any] = field(default_factory=dict)  # a summary of the gate's decision


_ENTRY = TypeAdapter(Promotion)


def champion(store: Store, name: str) -> Promotion | None:
    """Return the newest entry, or None if the log is empty.

    Raises:
        VersionCorruptError: The promoted version is not in the registry, or it was edited after its promotion.
    """
    promotion = newest(store, name)
    if promotion is None:
        return None
    try:
        ref = model_ref(store, name, promotion.version)
    except NotFoundError as error:
        raise VersionCorruptError(
            f"Promotion {promotion.number} names {name} {promotion.version} as champion, but the registry has no such version. "
            "`recsys rollback --to VERSION` promotes an earlier one."
        ) from error
    refuse_edited(ref, promotion)
    return promotion


def newest(store: Store, name: str) -> Promotion | None:
    """Return the newest entry, or None if the log is empty. The version that it names is not checked."""
    numbers = _numbers(store, name)
    return read_entry(store, name, numbers[-1])[0] if numbers else None


def history(store: Store, name: str) -> list[Promotion]:
    """Return all entries, oldest first.

    Raises:
        VersionCorruptError: An entry is missing, or it was edited after the next one was written.
    """
    entries: list[Promotion] = []
    digest = None
    for number in _numbers(store, name):
        entry, own = read_entry(store, name, number)
        if entry.after != digest:
            raise VersionCorruptError(
                f"The promotion log of {name} was changed: entry {number} does not carry the digest of the stored entry "
                f"{number - 1}. Restore the entry. Until then, the log cannot show which versions were champions."
            )
        entries.append(entry)
        digest = own
    return entries


def entry_key(name: str, number: int) -> str:
    return f"promotions/{name}/{number:08d}.json"


def _numbers(store: Store, name: str) -> list[int]:
    """Return the numbers of the entries, 1 to n. Other objects under the prefix are ignored."""
    pattern = re.compile(rf"promotions/{re.escape(name)}/(\d{{8}})\.json")
    numbers = [int(match[1]) for key in store.list(f"promotions/{name}/") if (match := pattern.fullmatch(key))]
    for place, number in enumerate(numbers, 1):
        if number != place:
            raise VersionCorruptError(
                f"The promotion log of {name} has an entry {number} but no entry {place}: entries were removed, or added by "
                f"something other than a promotion. Restore {store.uri(entry_key(name, place))}, or remove the added entries."
            )
    return numbers


def read_entry(store: Store, name: str, number: int) -> tuple[Promotion, str]:
    """Return an entry and its sha256.

    Raises:
        NotFoundError: There is no entry with this number.
        VersionCorruptError: The entry is damaged or belongs to another place in the log.
    """
    key = entry_key(name, number)
    what = f"The promotion log entry {store.uri(key)}"
    content = store.get(key, MOST_JSON)
    try:
        entry = _ENTRY.validate_python(read_json(content, what))
    except ValidationError as error:
        first = error.errors()[0]
        raise VersionCorruptError(f"{what} is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}).") from error
    if (entry.name, entry.number) != (name, number):
        raise VersionCorruptError(f"{what} contains entry {entry.number} of {entry.name}: it was overwritten.")
    return entry, hashlib.sha256(content).hexdigest()


def refuse_edited(ref: ModelRef, promotion: Promotion) -> None:
    """Raise VersionCorruptError if the version's manifest is not the one that was promoted."""
    if ref.digest != promotion.manifest:
        raise VersionCorruptError(
            f"The manifest of {ref.name} {ref.version} is not the one recorded by promotion {promotion.number}: it was changed "
            "after it was stored. The version must not be used; `recsys rollback --to VERSION` promotes an earlier one."
        )
