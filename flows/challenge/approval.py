"""Manual approval: the run pauses, and a person approves or rejects a challenger, or a rollout, in a form in the Prefect UI."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Running
from pydantic import Field

from configs.settings import PromotionSettings
from infra.pages import escaped
from tasks.gate import Approval, Decision, summary
from tasks.rollout import Standing, sentence

__all__ = ["Answer", "ask_for_approval", "ask_for_rollout"]

POLL_S = 5


class Answer(RunInput):
    """The fields of the approval form."""

    approve: bool = Field(default=False, description="On: the challenger becomes champion. Off: it is rejected.")
    who: str = Field(default="", description="Your name. It is stored with the decision.")
    note: str = Field(default="", description="The reason. It is stored with the decision.")


def ask_for_approval(decision: Decision, settings: PromotionSettings) -> Decision:
    """Return the decision with a person's answer.

    The decision is unchanged if it needs no approval, or if nobody answers within `approval_wait_s`. Must be called within a flow
    run. A run asks once against each champion.
    """
    if decision.outcome != "needs approval" or settings.approval_wait_s == 0:
        return decision
    log = get_run_logger()
    log.info("%s passed every rule; waiting %d s for approval", decision.challenger, settings.approval_wait_s)
    form = Answer.with_initial_data(
        description=f"**{decision.model_name} {decision.challenger}** passed every rule of the gate against "
        f"{f'the champion {decision.champion}' if decision.champion else 'no champion'}. {summary(decision)} The artifact `gate` of "
        "this run shows all figures."
    )
    answer = _answer(form, settings.approval_wait_s, f"approve-{decision.challenger.lower()}-{decision.champion_number}")
    if answer is None:
        log.warning(
            "nobody answered; approve later with `recsys model promote %s --set model_name=%s`",
            decision.challenger,
            decision.model_name,
        )
        return decision
    approval = _approval(answer)
    who = approval.who
    log.info("%s by %s. %s", "approved" if answer.approve else "rejected", who, approval.note)
    if answer.approve:
        return replace(decision, outcome="promoted", approval=approval)
    reason = f"{who} rejected it{': ' + approval.note if approval.note else ''}."
    return replace(decision, outcome="held", reasons=[*decision.reasons, reason], approval=approval)


def ask_for_rollout(standing: Standing) -> Approval | None:
    """Return a person's answer on the last stage of a rollout, or None if nobody answers within `approval_wait_s`.

    Must be called within a flow run. A run asks once at each stage.
    """
    form = Answer.with_initial_data(
        description=f"**Everybody?** {escaped(sentence(standing))} The summary of this run shows all figures."
    )
    answer = _answer(form, standing.settings.approval_wait_s, f"approve-rollout-{standing.rollout.entry}")
    return None if answer is None else _approval(answer)


def _answer(form: type[Answer], wait_s: int, key: str) -> Answer | None:
    """Pause the run until somebody answers the form, or until nobody has for `wait_s`. A key pauses a run once."""
    try:
        return pause_flow_run(wait_for_input=form, timeout=wait_s, poll_interval=POLL_S, key=key)
    except FlowPauseTimeout:
        _run_on()
        return None


def _approval(answer: Answer) -> Approval:
    who = answer.who.strip() or "an unnamed user of the Prefect UI"
    return Approval(answer.approve, who, answer.note.strip(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S+00:00}")


def _run_on() -> None:
    """Let the run go on, as it does if nobody answers: the server would make it fail, because it was paused for too long."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(str(flow_run.id)), Running(message="Nobody answered in time."), force=True)
