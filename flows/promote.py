"""promote: judge a stored version against the champion of now, and promote it if it passes, or is forced."""

from __future__ import annotations

from prefect import flow

from configs.errors import GateError
from configs.settings import PromotionSettings, RetrainSettings, StoreSettings
from tasks.promotions import Promotion
from tasks.stages import force_promotion, judge_again, promote_challenger

__all__ = ["promote"]

DEFAULTS = RetrainSettings()


@flow(name="promote")
def promote(
    version: str,
    model_name: str = DEFAULTS.model_name,
    reason: str = "",
    force: bool = False,
    promotion: PromotionSettings = DEFAULTS.promotion,
    store: StoreSettings = DEFAULTS.store,
) -> Promotion:
    """Promote `version`. `force` overrides the gate and needs a reason, which the log keeps. Raises GateError when it is held."""
    if force and not reason.strip():
        raise GateError("A forced promotion needs a reason (--reason), which the promotion log keeps.")
    # Asking for it is the approval that `approval: manual` waits for.
    settings = promotion.model_copy(update={"approval": "automatic"})
    ref, decision = judge_again(model_name, version, settings, store)
    if decision.champion == version:
        raise GateError(f"{model_name} {version} is the champion already.")
    if force:
        return force_promotion(ref, reason, decision, store)
    published = promote_challenger(ref, decision, settings, store, reason)
    if published.promotion is None:
        raise GateError(
            f"{version} is held: {' '.join(published.decision.reasons)} The champion is unchanged; --force overrides the gate."
        )
    return published.promotion
