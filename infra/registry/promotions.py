"""Write the promotion log, which `infra.registry.promotion_log` reads.

Entries are create-only and numbered. A promotion is decided against one entry and can only be written directly after it. If two
runs race, one wins and the other has to decide again.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from configs.errors import (
    AlreadyExistsError,
    ChampionMissingError,
    StoreError,
    StoreUnavailableError,
)
from infra.registry.promotion_log import Promotion, PromotionKind, champion, entry_key, history, read_entry, refuse_edited
from infra.registry.versions import ModelRef, model_ref, read_manifest, verify_files
from infra.storage import Store

__all__ = ["Promotion", "champion", "champion_ref", "history", "promote", "rollback"]


def promote(
    store: Store,
    name: str,
    version: str,
    *,
    expected: int,
    kind: PromotionKind = "promote",
    reason: str,
    now: datetime,
    decision: dict[str, Any] | None = None,
) -> Promotion:
    """Make `version` the champion.

    Args:
        store: Store with the registry and the promotion log.
        name: Name of the model.
        version: Version to promote.
        expected: Number of the log entry that the decision was made against, 0 if the log was empty.
        kind: How the promotion came about.
        reason: Reason for the log.
        now: Time of the promotion.
        decision: The gate's decision in short.

    Raises:
        AlreadyExistsError: Another promotion was written first.
        NotFoundError: The version was never sealed.
        VersionCorruptError: The version differs from what was sealed.
    """
    ref = model_ref(store, name, version)
    verify_files(store, ref.prefix, read_manifest(store, name, version)["files"])
    before, digest = read_entry(store, name, expected) if expected else (None, None)
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
        store.put_new(entry_key(name, entry.number), json.dumps(asdict(entry), indent=2).encode())
    except AlreadyExistsError as error:
        raise AlreadyExistsError(
            f"{name} got another champion while {version} was judged (promotion {entry.number}). Run again to "
            "decide against that one."
        ) from error
    return entry


def rollback(
    store: Store, name: str, *, to: str | None, reason: str, now: datetime, check: Callable[[ModelRef], None]
) -> Promotion:
    """Append an entry that returns to version `to`, or to the previous champion if `to` is None.

    `check` loads the old version and raises if its answers have changed; in that case nothing is written.

    Raises:
        ChampionMissingError: There is no version to return to.
        VersionCorruptError: The version or the log was edited.
        StoreError: The store did not answer, so the rollback may or may not have taken effect.
    """
    entries = history(store, name)
    if not entries:
        raise ChampionMissingError(
            f"{name} has no champion yet, so there is nothing to roll back. `recsys retrain` creates the first one."
        )
    current = entries[-1]
    if to is None:
        earlier = [entry.version for entry in entries if entry.version != current.version]
        if not earlier:
            raise ChampionMissingError(
                f"{name} has had only one champion, {current.version}; there is no earlier one to return to."
            )
        to = earlier[-1]
    if to == current.version:
        raise ChampionMissingError(f"{name} {to} is the champion already.")
    ref = model_ref(store, name, to)
    reigns = [entry for entry in entries if entry.version == to]
    if not reigns:
        raise ChampionMissingError(
            f"{name} {to} was never champion, so there is nothing to return to. Judge it with `recsys promote {to}` instead."
        )
    refuse_edited(ref, reigns[-1])
    check(ref)
    try:
        return promote(store, name, to, expected=current.number, kind="rollback", reason=reason, now=now)
    except StoreUnavailableError as error:
        # Do not retry automatically: if the entry was written, the previous champion is now the one that was just replaced.
        raise StoreError(
            f"The store did not answer while {name} was rolled back to {to}, and the rollback may have taken effect. Check "
            f"`recsys show champion`; if it is not {to}, run `recsys rollback --to {to}`. ({error})"
        ) from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a uid without a user name
        return str(os.getuid())


def champion_ref(store: Store, name: str) -> tuple[ModelRef, Promotion] | None:
    """The champion and its entry in the log, or None before the first promotion."""
    promotion = champion(store, name)
    return None if promotion is None else (model_ref(store, name, promotion.version), promotion)
