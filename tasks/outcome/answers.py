"""The answers to three questions about a run, each in one or two sentences of plain text."""

from __future__ import annotations

from dataclasses import dataclass

from infra.pages import count, duration, listed, money, utc_day
from tasks.datasets import DatasetRef, Delivery
from tasks.gate import Decision
from tasks.monitoring import DriftResult

__all__ = ["Answers", "Cost", "cost_answer", "data_answer", "drift_answer", "verdict_answer"]


@dataclass(frozen=True)
class Cost:
    """What a run used."""

    seconds: float  # of the whole run
    usd: float | None = None  # of rented machines; None if nothing was rented, or if the pool keeps no accounts
    rented: str = ""  # the rented machines in words
    remote: bool = False  # a deployment trained the models on another machine
    device: str = ""  # that trained the challenger


@dataclass(frozen=True)
class Answers:
    """The three answers."""

    verdict: str
    data: str
    cost: str

    @property
    def message(self) -> str:
        """All answers in one paragraph."""
        return f"{self.verdict} {self.data} {self.cost}"


def verdict_answer(decision: Decision) -> str:
    """Say whether the challenger was promoted, and why."""
    figures = _figures(decision)
    if decision.outcome == "promoted":
        by = f" {decision.approval.who} approved it." if decision.approval else ""
        return f"{figures or 'It passed every rule.'}{by}"
    if decision.outcome == "needs approval":
        return f"{figures} It passed every rule, and waits for a person's approval."
    if decision.outcome == "not judged":
        return " ".join(decision.reasons)
    if decision.approval and not decision.approval.approved:
        return f"{decision.approval.who} rejected it. {figures}"
    failed = [rule.name for rule in decision.rules if rule.verdict == "failed"]
    by = f"It is held by {count(len(failed), 'rule')}: {listed(failed)}." if failed else " ".join(decision.reasons)
    return f"{figures} {by}".strip()


def data_answer(dataset: DatasetRef, drift: DriftResult | None, delivery: Delivery | None) -> str:
    """Say whether the data is all right: what there is, what was refused, and whether it has drifted."""
    there = f"{dataset.rows:,} events of {dataset.users:,} users until {utc_day(dataset.last)}"
    refused = (
        "" if delivery is None or not delivery.rows else f", {delivery.quarantined:,} of {delivery.rows:,} delivered rows refused"
    )
    drifted = drift is not None and drift.verdict == "drifted"
    said = f"{'The data has changed' if drifted else 'The data is all right'}: {there}{refused}"
    if drift is None:
        return f"{said}."
    if drifted:
        return f"{said}; {listed(drift.drifted)} drifted."
    if drift.verdict == "stable":
        return f"{said}; no drift."
    new = (
        "nothing is new since the champion was trained"
        if drift.rows == 0
        else f"{drift.rows:,} new events are too few to judge drift"
    )
    return f"{said}; {new}."


def drift_answer(result: DriftResult) -> str:
    """Say what a monitoring run found."""
    judged = sum(check.verdict != "not judged" for check in result.checks)
    said = " ".join(result.reasons) or f"None of {judged} checks drifted in {result.rows:,} new events."
    live = result.live
    if live is None or live.live is None:
        return said
    return f"{said} Live NDCG@10 is {live.live.ndcg_at_10:.4f}, and was {live.holdout.ndcg_at_10:.4f} on the holdout."


def cost_answer(cost: Cost) -> str:
    """Say what the run cost, in money if machines were rented, and in time."""
    time = duration(cost.seconds)
    if cost.usd is not None:
        return f"It cost {money(cost.usd)}: {cost.rented}. The run took {time}."
    if cost.remote:
        return f"Its cost is unknown, because another machine trained it that keeps no account. The run took {time}."
    return f"No machine was rented. The run took {time} on this one{f' ({cost.device})' if cost.device else ''}."


def _figures(decision: Decision) -> str:
    """Return a sentence with NDCG@10 of the challenger and of what it was compared with, or nothing if it was not ranked."""
    if "challenger" not in decision.metrics:
        return ""
    if not decision.comparisons:
        ours = f"NDCG@10 {decision.metrics['challenger']['ndcg@10']:.4f}"
        return f"{ours}, and there was no champion to compare it with." if decision.champion is None else f"{ours}."
    overall = decision.comparisons[0]
    return (
        f"NDCG@10 {overall.challenger:.4f} against the champion's {overall.champion:.4f} (difference {overall.difference:+.4f}, 95 % "
        f"interval {overall.ci_low:+.4f} to {overall.ci_high:+.4f})."
    )
