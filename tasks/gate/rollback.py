"""Return to an earlier champion, after a check that it still loads and gives the same answers as before.

The calling process needs neither Prefect nor torch: when a champion misbehaves, a rollback has to be fast and reliable. Therefore
what else the machine does never refuses one. A version that is slow, or that the machine was too busy to check, is returned to
with a warning: it was champion before, its files are those of then, and servers check it again before they use it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from configs.errors import VersionCorruptError
from configs.settings import PromotionSettings
from infra.registry import ModelRef, ModelRegistry, Promotion
from infra.storage import Store
from tasks.evaluation import check_version
from tasks.gate.load_rules import slowness

__all__ = ["refuse_broken", "roll_back"]


def roll_back(store: Store, name: str, to: str | None, reason: str, settings: PromotionSettings) -> Promotion:
    """Make version `to` champion again, or the previous champion if `to` is None. If the check fails, nothing is changed.

    The returned entry of the log carries the warnings of the check.

    Raises:
        ChampionMissingError: There is no version to return to.
        VersionCorruptError: The version was edited since it was champion, or it does not work.
    """
    return ModelRegistry(store).rollback(
        name, to=to, reason=reason, now=datetime.now(UTC), check=lambda ref: refuse_broken(store, ref, settings)
    )


def refuse_broken(store: Store, ref: ModelRef, settings: PromotionSettings) -> list[str]:
    """Return warnings about a version that works, or that could not be checked.

    Raises:
        VersionCorruptError: A clean process cannot load the version, or its answers have changed.
    """
    found = check_version(store, ref, settings)
    if found.cut_off:
        return [
            f"{ref.version} was not checked: {found.reason}. Its files are those that were promoted before. See at /v1/models of a "
            "server whether it is served."
        ]
    if not found.ok:
        raise VersionCorruptError(
            f"{ref.name} {ref.version} cannot be rolled back to: {found.reason}. The champion is unchanged. Choose "
            "another version with `--to VERSION`."
        )
    return slowness(found, settings)
