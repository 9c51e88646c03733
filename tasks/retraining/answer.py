"""The answer to whether a model is trained again today, why, and when the next training is due."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from configs.settings import DueSettings, PolicySettings
from infra.pages import money, utc_day
from tasks.retraining.policies import DAY_S, Facts, Standing, described, due, foreseen, period_start
from tasks.training import Start

__all__ = ["AS_BEFORE", "Answer", "Position", "decide"]

AS_BEFORE = PolicySettings(on_drift=True)
"""What monitoring does without a policy. The deployment's schedule then retrains by the calendar."""
ALERTED_AT = 0.9  # share of the promised age


@dataclass(frozen=True)
class Position:
    """Where a model stands: its last training, its champion, and what its trainings cost."""

    last: Standing | None  # None: nothing has been trained
    champion_at: int | None  # training time of the champion, in UTC seconds; None: there is no champion
    spent_usd: float = 0.0  # for rented machines in this calendar month (UTC)
    training_usd: float = 0.0  # of the last training on a rented machine


@dataclass(frozen=True)
class Answer:
    """Today's answer; JSON-serialisable."""

    model_name: str
    dataset: str  # name/version of the newest dataset version
    champion: str | None
    at: int  # UTC seconds
    retrain: bool
    cause: str | None  # the condition that holds, also if something else prevents the retraining
    why: str  # in sentences
    policy: str  # in words
    next_at: int | None  # UTC seconds at which a retraining is expected; None if nobody can know
    next_why: str
    new_events: int | None  # since the last training
    trained_at: int | None  # UTC seconds of the last training
    age_s: int | None  # of the champion
    max_age_s: int | None
    stale: bool  # less than a tenth of the promised age is left
    spent_usd: float
    budget_usd: float | None
    warm: bool | None = None  # whether the next training begins with the champion's weights; None: warm starts are off
    start_why: str = ""  # why it begins so

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def message(self) -> str:
        """The answer and the outlook in one paragraph."""
        return " ".join(part for part in (self.why, self.outlook, self.beginning) if part)

    @property
    def outlook(self) -> str:
        """When the next retraining is expected, in one sentence."""
        if self.retrain:
            return ""
        if self.next_at is None:
            return "Nothing that can be foreseen will start one."
        return f"The next one is expected on {utc_day(self.next_at)}: {self.next_why}."

    @property
    def beginning(self) -> str:
        """How the next training begins, in one sentence; empty if warm starts are off."""
        if self.warm is None:
            return ""
        return f"The next training begins {'warm' if self.warm else 'from scratch'}: {self.start_why}."

    @property
    def freshness(self) -> str:
        """How old the champion is, in one sentence; empty if no age is promised."""
        if self.max_age_s is None or self.age_s is None:
            return ""
        age, promised = f"{self.age_s / DAY_S:.1f}", f"{self.max_age_s / DAY_S:.1f}"
        if self.age_s > self.max_age_s:
            return f"The champion is {age} days old, and the promised maximum of {promised} days is broken."
        if self.stale:
            return f"The champion is {age} days old, and will soon break the promised maximum of {promised} days."
        return f"The champion is {age} days old. At most {promised} days are promised."


def decide(
    settings: DueSettings,
    where: Position,
    now: Facts,
    *,
    model_name: str,
    dataset: str,
    champion: str | None = None,
    start: Start | None = None,
) -> Answer:
    """Decide whether the model is trained again now.

    Args:
        settings: The policy, the budget and the promise.
        where: Where the model stands.
        now: What is known about the events.
        model_name: Name of the model.
        dataset: Newest dataset version, as name/version.
        champion: Version of the champion.
        start: How the next training begins. None: warm starts are off.
    """
    policy, last = settings.policy or AS_BEFORE, where.last
    age = None if where.champion_at is None else now.at - where.champion_at
    cause, why, ahead = _judged(policy, last, now)
    retrain = cause is not None
    if cause is not None and (refusal := _over_budget(settings, where)):
        retrain, why = False, f"A retraining is due ({cause}), but {refusal}"
        ahead = (period_start(period_start(now.at, "month") + 32 * DAY_S, "month"), "a new month's budget")
    return Answer(
        model_name=model_name,
        dataset=dataset,
        champion=champion,
        at=now.at,
        retrain=retrain,
        cause=cause,
        why=why,
        policy=described(policy),
        next_at=ahead[0] if ahead and not retrain else None,
        next_why=ahead[1] if ahead and not retrain else "",
        new_events=now.rows - last.rows if last and last.rows is not None else None,
        trained_at=last.at if last else None,
        age_s=age,
        max_age_s=settings.max_age_s,
        stale=age is not None and settings.max_age_s is not None and age > ALERTED_AT * settings.max_age_s,
        spent_usd=where.spent_usd,
        budget_usd=settings.budget_usd_month,
        warm=start.warm if start else None,
        start_why=start.why if start else "",
    )


def _judged(policy: PolicySettings, last: Standing | None, now: Facts) -> tuple[str | None, str, tuple[int, str] | None]:
    """Return the condition that holds, the answer in one sentence, and what can be foreseen."""
    if last is None:
        if policy.on_drift and now.drifted:
            return "drift", "A retraining starts: the newest events have drifted, and nothing has been trained yet.", None
        return None, "Nothing has been trained yet. `recsys retrain` trains the first version.", None
    cause, ahead = due(policy, last, now), foreseen(policy, last, now)
    if cause is not None:
        return cause, f"A retraining starts: {cause}.", ahead
    if now.content == last.content:
        return None, "No retraining starts: no event has arrived since the last training.", ahead
    days = (now.at - last.at) / DAY_S
    if days < policy.least_days:
        said = f"the last training was {days:.1f} days ago, and at least {policy.least_days:g} days must lie between two"
        return None, f"No retraining starts: {said}.", ahead or (round(last.at + policy.least_days * DAY_S), "the earliest day")
    return None, f"No retraining starts: the policy retrains {described(policy)}, and none of this holds.", ahead


def _over_budget(settings: DueSettings, where: Position) -> str:
    """Return why the budget does not allow a training, or nothing if it does."""
    if settings.budget_usd_month is None or where.spent_usd + where.training_usd <= settings.budget_usd_month:
        return ""
    return (
        f"this month's trainings cost {money(where.spent_usd)} of {money(settings.budget_usd_month)}, and another one would cost about "
        f"{money(where.training_usd)}. Raise when.budget_usd_month to allow it."
    )
