"""The format of the promotion log, which names the champion and its predecessors.

Entries are numbered from 1, and each one is created once and never changed. The entry with the highest number names the
champion. An entry holds the sha256 of its version's manifest and of the previous entry, so an edit to either is detected. A
promotion is decided against one entry and can only be written directly after it: if two runs race, one wins, and the other has
to decide again.

Not every entry changes the champion. A rollout advances, and a model is frozen and thawed, by entries of their own.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from configs.errors import AlreadyExistsError, ChampionMissingError, FrozenError, OverwrittenError, VersionCorruptError
from configs.settings import model_option
from infra.digests import sha256_of
from infra.registry.rollouts import Freeze, Rollout
from infra.registry.versions import MOST_JSON, ModelRef, read_json
from infra.storage import Store

__all__ = ["Promotion", "PromotionKind", "PromotionLog", "previous_champions", "refuse_frozen", "version_to_restore"]

PromotionKind = Literal["promote", "rollback", "force", "advance", "return", "freeze", "thaw"]
"""`advance`: the champion's rollout goes on to its next stage. `return`: its rollout ended, and the old version is champion again."""
WHILE_FROZEN: tuple[PromotionKind, ...] = ("rollback", "return", "thaw")
"""What a frozen model still allows: to go back to a version that served before, and to thaw it."""
BACK: tuple[PromotionKind, ...] = ("rollback", "return")
SAME_CHAMPION: tuple[PromotionKind, ...] = ("advance", "freeze", "thaw")


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
    decision: dict[str, Any] = field(default_factory=dict)  # a summary of the gate's decision, or the warnings of a rollback
    rollout: Rollout | None = None  # how the version takes over; None if it serves everybody at once
    frozen: Freeze | None = None

    @property
    def warnings(self) -> list[str]:
        """What the check of a version that was rolled back to had to say, although it refused nothing."""
        return [] if self.kind in SAME_CHAMPION else [str(warning) for warning in self.decision.get("warnings", [])]

    @property
    def rolling_out(self) -> Rollout | None:
        """The rollout, if it is under way: the old version still serves users."""
        return None if self.rollout is None or self.rollout.complete else self.rollout

    def refuse_edited(self, ref: ModelRef) -> None:
        """Raise VersionCorruptError if the version's manifest is not the one that was promoted."""
        if ref.digest != self.manifest:
            raise VersionCorruptError(
                f"The manifest of {ref.name} {ref.version} is not the one recorded by promotion {self.number}: it was changed "
                f"after it was stored. The version must not be used; `recsys model rollback --to VERSION{model_option(ref.name)}` promotes "
                "an earlier one."
            )


_ENTRY = TypeAdapter(Promotion)


class PromotionLog:
    """The log of one model in a store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def newest(self) -> Promotion | None:
        """Return the newest entry, or None if the log is empty."""
        numbers = self._numbers()
        return self._read(numbers[-1])[0] if numbers else None

    def numbered(self, number: int) -> Promotion:
        """Return one entry. Raises NotFoundError if there is no entry with this number."""
        return self._read(number)[0]

    def entries(self) -> list[Promotion]:
        """Return all entries, oldest first.

        Raises:
            VersionCorruptError: An entry is missing, or it was edited after the next one was written.
        """
        entries: list[Promotion] = []
        digest = None
        for number in self._numbers():
            entry, own = self._read(number)
            if entry.after != digest:
                raise VersionCorruptError(
                    f"The promotion log of {self._name} was changed: entry {number} does not carry the digest of the stored entry "
                    f"{number - 1}. Restore the entry. Until then, the log cannot show which versions were champions."
                )
            entries.append(entry)
            digest = own
        return entries

    def append(
        self,
        ref: ModelRef,
        *,
        expected: int,
        kind: PromotionKind,
        reason: str,
        now: datetime,
        decision: dict[str, Any] | None = None,
        rollout: Rollout | None = None,
    ) -> Promotion:
        """Write the entry that makes `ref` the champion. `ModelRegistry.promote` describes the arguments.

        An entry that does not change the champion keeps the decision of the one before. A model stays frozen until it is thawed.

        Raises:
            AlreadyExistsError: Another promotion was written first.
            FrozenError: The model is frozen, and the entry is not one that a frozen model allows.
            NotFoundError: There is no entry `expected`.
            OverwrittenError: The store lost the entry to another promotion.
        """
        before, digest = self._read(expected) if expected else (None, None)
        refuse_frozen(before, kind, ref.version)
        who, when = f"{_user()}@{socket.gethostname()}", now.astimezone(UTC).isoformat(timespec="seconds")
        frozen = None if before is None else before.frozen
        frozen = Freeze(reason, who, when) if kind == "freeze" else None if kind == "thaw" else frozen
        if before is not None and kind in SAME_CHAMPION:
            decision = before.decision
        entry = Promotion(
            number=expected + 1,
            name=self._name,
            version=ref.version,
            previous=before.version if before else None,
            kind=kind,
            reason=reason,
            who=who,
            when=when,
            manifest=ref.digest,
            after=digest,
            decision=decision or {},
            rollout=rollout,
            frozen=frozen,
        )
        said = {key: value for key, value in asdict(entry).items() if value is not None or key not in ("rollout", "frozen")}
        try:
            self._store.claim(self._key(entry.number), json.dumps(said, indent=2).encode())
        except OverwrittenError as error:
            raise OverwrittenError(
                f"The promotion of {self._name} {ref.version} was lost: another run promoted at the same time, and entry {entry.number} of the "
                f"log is the other run's. {error}"
            ) from error
        except AlreadyExistsError as error:
            found, _ = self._read(entry.number)
            refuse_frozen(found, kind, ref.version)
            if found.kind in SAME_CHAMPION:
                raise AlreadyExistsError(
                    f"The log of {self._name} got another entry meanwhile (promotion {found.number}, {found.kind}). Run again."
                ) from error
            raise AlreadyExistsError(
                f"{self._name} got another champion while {ref.version} was judged (promotion {entry.number}). Run again to "
                "decide against that one."
            ) from error
        return entry

    def _read(self, number: int) -> tuple[Promotion, str]:
        """Return an entry and its sha256.

        Raises:
            NotFoundError: There is no entry with this number.
            VersionCorruptError: The entry is damaged or belongs to another place in the log.
        """
        key = self._key(number)
        what = f"The promotion log entry {self._store.uri(key)}"
        content = self._store.get(key, MOST_JSON)
        try:
            entry = _ENTRY.validate_python(read_json(content, what))
        except ValidationError as error:
            first = error.errors()[0]
            raise VersionCorruptError(f"{what} is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}).") from error
        if (entry.name, entry.number) != (self._name, number):
            raise VersionCorruptError(f"{what} contains entry {entry.number} of {entry.name}: it was overwritten.")
        return entry, sha256_of(content)

    def _numbers(self) -> list[int]:
        """Return the numbers of the entries, 1 to n. Other objects under the prefix are ignored."""
        prefix = f"promotions/{self._name}/"
        pattern = re.compile(rf"{re.escape(prefix)}(\d{{8}})\.json")
        numbers = [int(match[1]) for key in self._store.list(prefix) if (match := pattern.fullmatch(key))]
        for place, number in enumerate(numbers, 1):
            if number != place:
                raise VersionCorruptError(
                    f"The promotion log of {self._name} has an entry {number} but no entry {place}: entries were removed, or added by "
                    f"something other than a promotion. Restore {self._store.uri(self._key(place))}, or remove the added entries."
                )
        return numbers

    def _key(self, number: int) -> str:
        return f"promotions/{self._name}/{number:08d}.json"


def refuse_frozen(newest: Promotion | None, kind: PromotionKind = "promote", version: str = "") -> None:
    """Refuse an entry that a frozen model does not allow.

    Args:
        newest: Newest entry of the log, if there is one.
        kind: Kind of the entry that is wanted.
        version: The version that it would name, for the message.

    Raises:
        FrozenError: The model is frozen.
    """
    if newest is None or newest.frozen is None or kind in WHILE_FROZEN:
        return
    frozen, thaw = newest.frozen, f"`recsys thaw{model_option(newest.name)}`"
    since = f"{newest.name} is frozen since {frozen.when} by {frozen.who} ({frozen.reason})"
    if kind == "freeze":
        raise FrozenError(f"{since} already; {thaw} ends it.")
    if kind == "advance":
        raise FrozenError(f"{since}, so the rollout of {newest.version} waits at its stage until {thaw}.")
    raise FrozenError(f"{since}, so {version or 'nothing'} {'was not' if version else 'is'} promoted until {thaw}.")


def version_to_restore(name: str, entries: list[Promotion], to: str | None) -> str:
    """Return the version that a rollback returns to: `to`, or by default the champion before the current one.

    A version that was rolled back is not returned to by default, unless it was promoted later: of A, B and C, the first rollback
    returns to B and the second one to A.

    Args:
        name: Name of the model.
        entries: All entries of the log, oldest first.
        to: The version that was asked for.

    Raises:
        ChampionMissingError: There is no champion, no other one before it, or `to` is the champion.
    """
    if not entries:
        raise ChampionMissingError(
            f"{name} has no champion yet, so there is nothing to roll back. `recsys retrain{model_option(name)}` creates the first one."
        )
    current = entries[-1].version
    if to is None:
        earlier = previous_champions(entries)
        if not earlier:
            raise ChampionMissingError(_no_earlier(name, entries))
        to = earlier[0]
    if to == current:
        raise ChampionMissingError(f"{name} {to} is the champion already.")
    return to


def previous_champions(entries: list[Promotion]) -> list[str]:
    """Return the versions that rollbacks would return to one after the other, the next one first."""
    reigns: list[str] = []  # the champion last; without the versions that were rolled back
    for before, entry in zip([None, *entries], entries, strict=False):
        version = entry.version
        if before is not None and before.rolling_out is not None and version != before.version and entry.kind not in BACK:
            reigns = reigns[:-1]  # its rollout was cut short by another version, so it never served everybody
        if entry.kind in BACK:
            place = len(reigns) - reigns[::-1].index(version) if version in reigns else len(reigns) - 1
            rolled_back = {*reigns[place:]} - {version}
            reigns = [earlier for earlier in reigns[:place] if earlier not in rolled_back]
        if reigns[-1:] != [version]:
            reigns.append(version)
    return [version for version in dict.fromkeys(reversed(reigns)) if version != reigns[-1]]


def _no_earlier(name: str, entries: list[Promotion]) -> str:
    current = entries[-1].version
    others = sorted({entry.version for entry in entries} - {current})
    if not others:
        return f"{name} has had only one champion, {current}; there is no earlier one to return to."
    return (
        f"{name} has no champion before {current} that was not rolled back itself. To return to one that was, name it: "
        f"`recsys model rollback --to VERSION{model_option(name)}`, with one of {', '.join(others)}."
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a uid without a user name
        return str(os.getuid())
