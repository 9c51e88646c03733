"""promote: judge a stored version against the current champion, and promote it if it passes or is forced."""

from __future__ import annotations

from prefect import flow

from configs.errors import GateError
from configs.settings import PromotionSettings, RetrainSettings, RolloutSettings, StoreSettings, TrackingSettings
from flows.forms import with_form
from infra.registry import Promotion
from tasks.gate import Decision, render_markdown
from tasks.outcome import headline_figures, verdict_answer
from tasks.stages import (
    force_promotion,
    judge_stored,
    mirror_promotion,
    notify_champion,
    notify_decision,
    promote_challenger,
    publish_failure_artifact,
)
from tasks.stages.endings import begin_summary, dated, ended, fails_with_a_sentence, summarise
from tasks.stages.rollouts import start_rollout

__all__ = ["promote"]

DEFAULTS = RetrainSettings()


@with_form("model_name", "promotion.rule", "promotion.alpha", "store.url", first=("version", "reason", "force"))
@flow(name="promote", flow_run_name=dated("{model_name} {version}"), on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def promote(
    version: str,
    model_name: str = DEFAULTS.model_name,
    reason: str = "",
    force: bool = False,
    promotion: PromotionSettings | None = None,
    store: StoreSettings = DEFAULTS.store,
    rollout: RolloutSettings = DEFAULTS.rollout,
    tracking: TrackingSettings = DEFAULTS.tracking,
) -> Promotion:
    """Promote `version` if it passes its own gate, with any fields set in `promotion` overriding that gate.

    If the machine was too busy to check the version, it is not judged, and the run fails with that reason.

    Args:
        version: Version to judge, or the beginning of its name, or `latest`.
        model_name: Name that the version is registered under.
        reason: Reason, stored in the promotion log.
        force: Override the gate. Requires a reason. A version that does not load and answer correctly cannot be promoted even by
            force, because nothing could be ranked against it. A slow one can.
        promotion: Gate settings that override those of the version.
        store: Store of the version.
        rollout: How the version takes over from the champion. By force, it takes over at once.
        tracking: Whether the champion is mirrored in MLflow's registry.

    Raises:
        FrozenError: The model is frozen.
        GateError: The version is held, or cannot be promoted.
    """
    if force and not reason.strip():
        raise GateError("A forced promotion needs a reason (--reason), which is stored in the promotion log.")
    begin_summary(f"{model_name} {version} is judged.")
    ref, decision, settings = judge_stored(model_name, version, promotion, store)
    version = ref.version
    summarise(render_markdown(decision), verdict_answer(decision))
    if decision.champion == version:
        raise GateError(f"{model_name} {version} is already the champion.")
    _refuse_unjudged(version, decision)
    if force:
        if decision.broken:
            raise GateError(f"{version} cannot become champion, even by force. {decision.broken} The champion is unchanged.")
        forced = force_promotion(ref, reason, decision, store)
        notify_champion(forced, store)
        mirror_promotion(model_name, tracking, store)
        said = f"{version} is champion by force: {reason} The gate would have said: {verdict_answer(decision)}"
        return ended("Forced", said, forced, f"{model_name} {version}: forced")
    published = promote_challenger(ref, decision, settings, store, reason, rollout)
    if published.decision != decision:
        summarise(render_markdown(published.decision), verdict_answer(published.decision))
    if published.promotion is None:
        _refuse_unjudged(version, published.decision)
        raise GateError(
            f"{version} is held: {' '.join(published.decision.reasons)} The champion is unchanged; --force overrides the gate."
        )
    notify_decision(ref, published.decision, store)
    start_rollout(published.promotion, store)
    mirror_promotion(model_name, tracking, store)
    figures = headline_figures(published.decision)
    return ended("Promoted", verdict_answer(published.decision), published.promotion, f"{model_name} {version}: {figures}")


def _refuse_unjudged(version: str, decision: Decision) -> None:
    if decision.outcome == "not judged":
        raise GateError(f"{version} was not judged. {' '.join(decision.reasons)} The champion is unchanged.")
