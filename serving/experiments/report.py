"""Reports on an experiment: joins exposures with outcomes, checks the data, and compares the arms.

The unit of analysis is the user, because users were assigned. A user enters at the first exposure and counts once `horizon_s`
have passed since then, so all users had the same time to respond. Outcomes before the first exposure are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from configs.errors import SourceError
from configs.serving import AnalysisSettings, Experiment
from models.evaluation import ArmComparison, compare_arms, compare_pairs
from models.evaluation import Path as Course
from serving.experiments.attribution import credited_outcomes, of_kinds
from serving.experiments.exposures import Exposure
from serving.experiments.interleaving import team_credits
from serving.experiments.validity import Check, checks_of, crossed_users

__all__ = ["ArmResult", "ExperimentReport", "ShadowResult", "Versus", "report_experiment"]

POINTS = 400  # most points of a plotted course; the full course has one point per user
Verdict = Literal["better", "worse", "not shown", "too early", "not to be believed"]


@dataclass(frozen=True)
class ArmResult:
    """One arm's users and outcomes."""

    name: str
    versions: list[str]  # versions that actually answered
    share: float  # of the experiment's users, as configured
    exposed: int  # users who were exposed
    users: int  # exposed users who count
    outcomes: int  # of the users who count
    mean: float | None  # per user


@dataclass(frozen=True)
class Versus:
    """An arm compared with the control, with its course for a plot."""

    arm: str
    verdict: Verdict
    comparison: ArmComparison | None
    course: dict[str, list[float]]  # users, difference, low, high: at most POINTS values each


@dataclass(frozen=True)
class ShadowResult:
    """A shadow version, whose answers were logged but not shown."""

    version: str
    answers: int
    overlap: float | None  # mean share of its list that was also shown


@dataclass(frozen=True)
class ExperimentReport:
    """The complete report. `to_dict` makes it serializable as JSON."""

    experiment: str
    revision: str
    verdict: str  # in sentences
    trusted: bool
    as_of: int  # UTC seconds; later exposures and outcomes are ignored
    as_of_is: str  # what this time is, in words
    first: int | None  # time of the first exposure
    last: int | None
    exposures: int
    outcome: str  # the measured outcome, in words
    alpha: float
    control: str
    checks: list[Check]
    arms: list[ArmResult]
    versus: list[Versus]
    shadow: list[ShadowResult]

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = _finite(asdict(self))
        return found


def report_experiment(
    experiment: Experiment, exposures: Iterable[Exposure], outcomes: pd.DataFrame, *, as_of: int | None = None
) -> ExperimentReport:
    """Join exposures with outcomes, check the data, and compare the arms.

    Only the experiment's current revision is compared: a change of arms or shares makes it a different experiment.

    Args:
        experiment: The experiment as configured.
        exposures: Exposures of any experiments, revisions and shadow versions.
        outcomes: Outcomes as returned by `read_outcomes`.
        as_of: UTC seconds up to which both inputs are complete; later data is ignored. By default, as far as both reach.

    Raises:
        SourceError: If nobody was exposed to the experiment.
    """
    analysis = experiment.analysis
    outcomes = of_kinds(outcomes, analysis)
    shown, shadows, logged = _tables(experiment, exposures)
    if shown.empty:
        raise SourceError(
            f"No exposure names the experiment {experiment.name}: check that it is active and that the logs cover its period."
        )
    as_of, as_of_is = (as_of, "the time that was given") if as_of is not None else _both_reach(experiment, logged, outcomes)
    shown, shadows, logged, outcomes = (each[each["time"] <= as_of] for each in (shown, shadows, logged, outcomes))
    now = shown[shown["revision"] == experiment.revision]
    crossed = crossed_users(shown)
    users = now.groupby("user", sort=False).agg(first=("time", "min"), arm=("arm", "first"))
    users = users[~users.index.isin(crossed)].sort_values("first", kind="stable")
    counted = users[users["first"] + analysis.horizon_s <= as_of]
    credited = credited_outcomes(counted, now, outcomes, analysis)
    values = _values(credited, counted, analysis)
    checks = checks_of(experiment, now, logged, users, crossed, outcomes)
    trusted = all(check.passed for check in checks)
    if experiment.kind == "interleaving":
        arms, versus = _interleaved(experiment, now, users, counted, credited, trusted)
    else:
        arms = [
            _arm(experiment, place, now, users, counted, values, credited["user"].map(counted["arm"]))
            for place in range(len(experiment.arms))
        ]
        versus = [_versus(experiment, arm.name, counted, values, trusted) for arm in experiment.arms[1:]]
    return ExperimentReport(
        experiment=experiment.name,
        revision=experiment.revision,
        verdict=_sentence(experiment, checks, versus, exposed=not now.empty),
        trusted=trusted,
        as_of=as_of,
        as_of_is=as_of_is,
        first=None if now.empty else int(now["time"].min()),
        last=None if now.empty else int(now["time"].max()),
        exposures=len(now),
        outcome=_in_words(experiment),
        alpha=analysis.alpha,
        control=experiment.arms[0].name,
        checks=checks,
        arms=arms,
        versus=versus,
        shadow=_shadow(shown, shadows),
    )


def _tables(experiment: Experiment, exposures: Iterable[Exposure]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the exposures of the experiment, what shadow versions would have shown, and all exposures to users."""
    columns = ["time", "user", "request", "version", "items", "arm", "revision", "teams"]
    shown, shadows, logged = [], [], []
    for each in exposures:
        row = (each.time, str(each.user), each.request, each.version, list(each.items), each.arm, each.revision, list(each.teams))
        if each.shadow:
            shadows.append(row)
            continue
        logged.append(row[:3])
        if each.experiment == experiment.name:
            shown.append(row)
    return (
        pd.DataFrame(shown, columns=columns),
        pd.DataFrame(shadows, columns=columns),
        pd.DataFrame(logged, columns=columns[:3]),
    )


def _both_reach(experiment: Experiment, logged: pd.DataFrame, outcomes: pd.DataFrame) -> tuple[int, str]:
    """Return the time up to which both inputs have data, and what it is in words.

    The newer of the two ends would count users whose outcomes are not in the file yet, and a single wrong clock would move it.
    After the experiment's period, nobody is exposed to it any more, so the log needs to reach no further.
    """
    exposed, end = int(logged["time"].max()), experiment.during.end
    if outcomes.empty:
        return exposed, "the newest exposure"
    told = int(outcomes["time"].max())
    if end is not None and told >= end.timestamp():
        last = math.ceil(end.timestamp()) + experiment.analysis.horizon_s
        return (last, "the end of the last user's time") if last <= told else (told, "the newest outcome")
    return (told, "the newest outcome") if told <= exposed else (exposed, "the newest exposure")


def _values(credited: pd.DataFrame, counted: pd.DataFrame, analysis: AnalysisSettings) -> pd.Series[float]:
    """Return each counted user's conversion or value."""
    by_user = credited.groupby("user")["value"]
    if analysis.outcome == "conversion":  # any outcome, whatever its value
        return (by_user.size().reindex(counted.index).fillna(0) > 0).astype(np.float64)
    return by_user.sum().reindex(counted.index).fillna(0.0).clip(upper=analysis.value_cap)


def _arm(
    experiment: Experiment,
    place: int,
    now: pd.DataFrame,
    users: pd.DataFrame,
    counted: pd.DataFrame,
    values: pd.Series[float],
    credited_arms: pd.Series[str],
) -> ArmResult:
    name = experiment.arms[place].name
    own = values[(counted["arm"] == name).to_numpy()]
    return ArmResult(
        name=name,
        versions=sorted(now.loc[now["arm"] == name, "version"].unique()),
        share=experiment.shares[place],
        exposed=int((users["arm"] == name).sum()),
        users=len(own),
        outcomes=int((credited_arms == name).sum()),
        mean=float(own.mean()) if len(own) else None,
    )


def _versus(experiment: Experiment, arm: str, counted: pd.DataFrame, values: pd.Series[float], trusted: bool) -> Versus:
    analysis = experiment.analysis
    both = counted["arm"].isin([experiment.arms[0].name, arm]).to_numpy()
    treated = (counted["arm"] == arm).to_numpy()[both]
    if treated.all() or not treated.any():
        return Versus(arm, "too early" if trusted else "not to be believed", None, {})
    comparison, course = compare_arms(
        np.asarray(values, np.float64)[both],
        treated,
        alpha=analysis.alpha / (len(experiment.arms) - 1),
        tuned_users=analysis.tuned_users,
        least=analysis.min_users,
    )
    return Versus(arm, _verdict(comparison, trusted), comparison, _thinned(course))


def _interleaved(
    experiment: Experiment,
    now: pd.DataFrame,
    users: pd.DataFrame,
    counted: pd.DataFrame,
    credited: pd.DataFrame,
    trusted: bool,
) -> tuple[list[ArmResult], list[Versus]]:
    """Return what users did with the items of each arm, in lists that both arms drafted."""
    analysis, names = experiment.analysis, [arm.name for arm in experiment.arms]
    credits = team_credits(credited, now, names, analysis).reindex(counted.index, fill_value=0.0)
    versions = [version.split("+") for version in now["version"].unique()]
    arms = [
        ArmResult(
            name=name,
            versions=sorted({pair[place] for pair in versions if len(pair) == len(names)}),
            share=1 / len(names),
            exposed=len(users),
            users=len(counted),
            outcomes=int((credits[name] > 0).sum()) if analysis.outcome == "value" else int(credits[name].sum()),
            mean=float(credits[name].mean()) if len(counted) else None,
        )
        for place, name in enumerate(names)
    ]
    if not len(counted):
        return arms, [Versus(names[1], "too early" if trusted else "not to be believed", None, {})]
    comparison, course = compare_pairs(
        credits[names[0]].to_numpy(np.float64),
        credits[names[1]].to_numpy(np.float64),
        alpha=analysis.alpha,
        tuned_users=analysis.tuned_users,
        least=analysis.min_users,
    )
    return arms, [Versus(names[1], _verdict(comparison, trusted), comparison, _thinned(course))]


def _verdict(comparison: ArmComparison, trusted: bool) -> Verdict:
    if not trusted:
        return "not to be believed"
    if not np.isfinite(comparison.low):
        return "too early"
    return "better" if comparison.low > 0 else "worse" if comparison.high < 0 else "not shown"


def _thinned(course: Course) -> dict[str, list[float]]:
    places = np.unique(np.linspace(0, len(course.users) - 1, POINTS).astype(np.int64))
    places = places[np.isfinite(course.low[places])]
    named = {"users": course.users, "difference": course.difference, "low": course.low, "high": course.high}
    return {name: [float(value) for value in column[places]] for name, column in named.items()}


def _shadow(shown: pd.DataFrame, shadows: pd.DataFrame) -> list[ShadowResult]:
    lists = dict(zip(shown["request"], shown["items"], strict=True))
    found = []
    for version, rows in shadows.groupby("version"):
        overlaps = [
            len(set(items) & set(lists[request])) / len(items)
            for request, items in zip(rows["request"], rows["items"], strict=True)
            if request in lists and items
        ]
        found.append(ShadowResult(str(version), len(rows), float(np.mean(overlaps)) if overlaps else None))
    return found


def _sentence(experiment: Experiment, checks: list[Check], versus: list[Versus], *, exposed: bool) -> str:
    failed = [check for check in checks if not check.passed]
    if failed:
        return (
            f"No conclusion can be drawn: {'; '.join(f'{check.name} ({check.detail})' for check in failed)}. Find the cause "
            "before reading on."
        )
    control = experiment.arms[0].name
    said = []
    for each in versus:
        found = each.comparison
        if each.verdict == "too early" or found is None:
            said.append(f"{each.arm}: too early, {_missing(experiment, found, exposed)}")
        elif each.verdict == "not shown":
            said.append(
                f"{each.arm}: no difference from {control} has been shown yet ({found.low:+.4f} to {found.high:+.4f} per user)"
            )
        else:
            lift = "" if found.lift is None else f", a lift of {found.lift:+.1%}{_between(found)}"
            said.append(
                f"{each.arm} is {each.verdict} than {control}: {found.difference:+.4f} per user ({found.low:+.4f} to "
                f"{found.high:+.4f}){lift}, shown since user {found.decided_at:,}"
            )
    return f"{'. '.join(said)}."


def _missing(experiment: Experiment, found: ArmComparison | None, exposed: bool) -> str:
    """Return what a first look at a comparison is waiting for."""
    if not exposed:
        return f"nobody was exposed to its revision {experiment.revision} before the data ends"
    least = experiment.analysis.min_users
    if found is not None and min(found.control_users, found.treated_users) >= least:
        return "because every user who counts has the same outcome"
    return f"each arm needs {least:,} users with a completed horizon"


def _between(found: ArmComparison) -> str:
    if found.lift_low is None or found.lift_high is None:
        return ""
    return f" ({found.lift_low:+.1%} to {found.lift_high:+.1%})"


def _in_words(experiment: Experiment) -> str:
    analysis = experiment.analysis
    kinds = f" ({' or '.join(analysis.kinds)})" if analysis.kinds else ""
    days = f"{analysis.horizon_s / 86_400:g} days after the first exposure"
    which = (
        f"on items shown in the {analysis.window_s / 3600:g} hours before" if analysis.attribution == "shown" else "of any kind"
    )
    if analysis.outcome == "conversion" and experiment.kind == "interleaving":
        return f"items of an arm with an outcome{kinds} per user, within {days}"
    if analysis.outcome == "conversion":
        return f"share of users with an outcome{kinds} {which}, within {days}"
    capped = f", at most {analysis.value_cap:g} per user" if analysis.value_cap is not None else ""
    return f"value of a user's outcomes{kinds} {which}, within {days}{capped}"


def _finite(value: Any) -> Any:
    """Replace infinities and NaN with None, because JSON cannot represent them."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
