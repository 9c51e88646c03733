"""rollback: return to an earlier champion, after checking that it loads and still gives the same answers."""

from __future__ import annotations

from prefect import flow

from configs.settings import PromotionSettings, RetrainSettings, StoreSettings, TrackingSettings
from flows.forms import with_form
from infra.registry import Promotion
from tasks.stages import mirror_promotion, notify_champion, publish_failure_artifact, return_to
from tasks.stages.endings import dated, ended, fails_with_a_sentence

__all__ = ["rollback"]

DEFAULTS = RetrainSettings()


@with_form("model_name", "promotion.max_load_s", "promotion.max_request_s", "store.url", first=("to", "reason"))
@flow(name="rollback", flow_run_name=dated("{model_name}"), on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def rollback(
    to: str | None = None,
    reason: str = "rolled back by hand",
    model_name: str = DEFAULTS.model_name,
    promotion: PromotionSettings = DEFAULTS.promotion,
    store: StoreSettings = DEFAULTS.store,
    tracking: TrackingSettings = DEFAULTS.tracking,
) -> Promotion:
    """Return to an earlier champion.

    Args:
        to: Version to return to, or the beginning of its name, by default the previous champion.
        reason: Reason, stored in the promotion log.
        model_name: Name that the version is registered under.
        promotion: Gate settings. A version beyond their limits of time is returned to with a warning.
        store: Store of the version.
        tracking: Whether the champion is mirrored in MLflow's registry.
    """
    entry = return_to(model_name, to, reason, promotion, store)
    notify_champion(entry, store)
    mirror_promotion(model_name, tracking, store)
    said = f"{entry.version} is champion again, instead of {entry.previous or 'none'}: {entry.reason}"
    return ended("Rolled back", said, entry, f"{model_name} back to {entry.version}")


if __name__ == "__main__":
    print(rollback())
