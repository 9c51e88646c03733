"""Return to an earlier champion, after a check that it still loads and gives the same answers as before.

The calling process needs neither Prefect nor torch: when a champion misbehaves, a rollback has to be fast and reliable.
"""

from __future__ import annotations

from datetime import UTC, datetime

from configs.errors import VersionCorruptError
from configs.settings import PromotionSettings
from infra.registry import ModelRef, ModelRegistry, Promotion
from infra.storage import Store
from tasks.evaluation import check_version

__all__ = ["refuse_broken", "roll_back"]


def roll_back(store: Store, name: str, to: str | None, reason: str, settings: PromotionSettings) -> Promotion:
    """Make version `to` champion again, or the previous champion if `to` is None. If the check fails, nothing is changed.

    Raises:
        ChampionMissingError: There is no version to return to.
        VersionCorruptError: The version was edited since it was champion, or it does not work.
    """
    return ModelRegistry(store).rollback(
        name, to=to, reason=reason, now=datetime.now(UTC), check=lambda ref: refuse_broken(store, ref, settings)
    )


def refuse_broken(store: Store, ref: ModelRef, settings: PromotionSettings) -> None:
    """Raise VersionCorruptError if a clean process cannot load the version, or if its answers have changed."""
    found = check_version(store, ref, settings)
    if not found.ok:
        raise VersionCorruptError(
            f"{ref.name} {ref.version} cannot be rolled back to: {found.reason}. The champion is unchanged. Choose "
            "another version with `--to VERSION`."
        )
