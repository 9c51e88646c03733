"""Return to an earlier champion, once it has been loaded and has answered as it did.

Needs neither Prefect nor torch in the process that calls it: when a champion misbehaves, this has to be quick and to work.
"""

from __future__ import annotations

from datetime import UTC, datetime

from configs.errors import VersionCorruptError
from configs.settings import PromotionSettings
from infra.stores import Store
from tasks.load_check import check_version
from tasks.promotions import Promotion, rollback
from tasks.registry import ModelRef

__all__ = ["refuse_broken", "roll_back"]


def roll_back(store: Store, name: str, to: str | None, reason: str, settings: PromotionSettings) -> Promotion:
    """Make version `to`, or the champion before this one, champion again.

    Raises ChampionMissingError where there is nothing to return to, VersionCorruptError with the reason where the version is
    not what was champion or does not work; then nothing is changed.
    """
    return rollback(
        store, name, to=to, reason=reason, now=datetime.now(UTC), check=lambda ref: refuse_broken(store, ref, settings)
    )


def refuse_broken(store: Store, ref: ModelRef, settings: PromotionSettings) -> None:
    """Raises VersionCorruptError where a clean process cannot load the version, or it answers otherwise than it did."""
    found = check_version(store, ref, settings)
    if not found.ok:
        raise VersionCorruptError(
            f"{ref.name} {ref.version} cannot be rolled back to: {found.reason}. The champion is unchanged; `--to VERSION` names another."
        )
