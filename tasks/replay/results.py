"""The results of a replay: each policy's quality over time, its cost, and how the policies differ on the same live events."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from configs.kinds import label_of
from configs.settings import DEFAULT_NOUNS
from configs.studies import ReplaySettings
from infra.pages import utc_day
from models.evaluation import MISS, FloatArray, clustered_means, holm, per_request
from models.recommender import IntArray
from tasks.monitoring import AS_ARRIVED, LONG_TERM
from tasks.replay.feed import Slice
from tasks.replay.log import ReplayLog, ReplayPlan, SliceRecord, TrainingRecord
from tasks.retraining import described

__all__ = [
    "Difference",
    "Estimate",
    "Point",
    "PolicyResult",
    "Replay",
    "SliceResult",
    "replay_results",
    "slice_line",
]

SLICE_RESAMPLES = 1000  # for each point of a curve


@dataclass(frozen=True)
class Estimate:
    """A mean over requests with its 95 % interval from a bootstrap over users."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A policy's champion on the live requests of one slice."""

    slice: int
    champion: str
    ndcg: Estimate
    hr: Estimate
    gain: Estimate  # NDCG@10 minus that of the first policy, on the same requests


@dataclass(frozen=True)
class PolicyResult:
    """The results of one policy over the entire replay."""

    name: str
    rule: str  # in words
    ndcg: Estimate  # NDCG@10 over all live requests
    hr: Estimate
    unknown_share: float  # share of requests for items that the champion of that time could not recommend
    points: list[Point]
    trainings: list[TrainingRecord]  # without that of the base
    drifts: dict[int, list[str]]  # slice -> checks that drifted
    moved: dict[int, list[str]]  # of these, from the planted shift on, the checks that do not drift in the same slice without it
    training_s: float
    seconds: float  # of all its retraining
    cost: float  # USD

    @property
    def promoted(self) -> int:
        return sum(each.outcome == "promoted" for each in self.trainings)


@dataclass(frozen=True)
class Difference:
    """NDCG@10 and HR@10 of policy a minus those of policy b, on the same requests; 95 % intervals from a bootstrap over users."""

    a: str
    b: str
    ndcg: Estimate
    hr: Estimate
    p_value: float  # two-sided, for NDCG@10
    adjusted: float  # after Holm's correction over all pairs
    significant: bool  # at the level `alpha`; stored as `shown`


@dataclass(frozen=True)
class SliceResult:
    """The row counts and live requests of one slice."""

    number: int
    start: int
    end: int
    delivered: int
    accepted: int
    duplicates: int
    quarantined: int
    requests: int  # live
    users: int


@dataclass(frozen=True)
class Replay:
    """All results of a replay; JSON-serialisable."""

    id: str
    source: str
    length: str  # of a slice
    scenario: str  # empty if nothing was planted
    scenario_slice: int
    base_events: int
    base_end: int
    base_seconds: float
    slices: list[SliceResult]
    policies: list[PolicyResult]
    differences: list[Difference]
    requests: int
    users: int
    alpha: float
    hourly_price: float
    seconds: float  # of all measured steps; a training that policies share counts for each of them
    page: str = ""  # address
    trained: str = ""  # in words: what was trained
    items: str = DEFAULT_NOUNS.items  # the word for items

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        for pair in found["differences"]:
            pair["shown"] = pair.pop("significant")  # its key in every stored report
        return found

    def policy(self, name: str) -> PolicyResult:
        return next(policy for policy in self.policies if policy.name == name)


def replay_results(plan: ReplayPlan, settings: ReplaySettings) -> Replay:
    """Compute the results of a replay whose slices are all done."""
    log = ReplayLog.of(plan)
    records = {part.number: _record(log, part) for part in plan.slices}
    ranks = {number: found for number in records if (found := log.ranks(number)) is not None}
    trainings = log.trainings()
    requests = pd.concat(list(ranks.values()), ignore_index=True) if ranks else None
    base = [each for each in trainings if each.slice == 0]
    scenario = settings.scenario
    return Replay(
        id=plan.id,
        source=plan.source,
        length=settings.slices,
        scenario=scenario.name if scenario else "",
        scenario_slice=scenario.from_slice if scenario else 0,
        base_events=records[0].rows,
        base_end=plan.slices[0].end,
        base_seconds=max((each.seconds for each in base), default=0.0),
        slices=[_slice_result(part, records[part.number], ranks.get(part.number)) for part in plan.slices[1:]],
        policies=[_policy(name, records, ranks, requests, trainings, settings) for name in settings.policies],
        differences=_differences(requests, settings) if requests is not None else [],
        requests=len(requests) if requests is not None else 0,
        users=int(requests["user_id"].nunique()) if requests is not None else 0,
        alpha=settings.alpha,
        hourly_price=settings.hourly_price,
        seconds=round(
            sum(sum(record.seconds.values()) for record in records.values()) + sum(each.seconds for each in trainings), 1
        ),
        trained=_described(settings),
        items=settings.data.nouns.items,
    )


def _described(settings: ReplaySettings) -> str:
    """Say what was trained: the challenger, its settings that differ from its defaults, and the seed."""
    own = settings.models.of(settings.challenger).model_dump(mode="json", exclude_defaults=True)
    changed = [f"{name.replace('_', ' ')} {value}" for name, value in own.items()]
    return ", ".join([label_of(settings.challenger), *changed, f"seed {settings.seed}"])


def slice_line(plan: ReplayPlan, record: SliceRecord) -> str:
    """Describe a slice in one line for the log."""
    part = plan.slices[record.number]
    said = (
        f"slice {part.number} of {len(plan.slices) - 1}, {utc_day(part.start)} to {utc_day(part.end)}: {record.delivered:,} rows = "
        f"{record.accepted:,} accepted + {record.duplicates:,} duplicates + {record.quarantined:,} quarantined"
    )
    ranks = ReplayLog.of(plan).ranks(record.number)
    for name, watch in record.policies.items():
        live = "no live events" if ranks is None else f"NDCG@10 {per_request(_column(ranks, name), 'ndcg', 10).mean():.4f}"
        said += f"; {name} {live}, {watch.verdict}{' in ' + ', '.join(watch.drifted) if watch.drifted else ''}"
    return said


def _record(log: ReplayLog, part: Slice) -> SliceRecord:
    found = log.slice(part.number)
    assert found is not None  # the flow reports only after all slices are done
    return found


def _policy(
    name: str,
    records: dict[int, SliceRecord],
    ranks: dict[int, pd.DataFrame],
    requests: pd.DataFrame | None,
    trainings: list[TrainingRecord],
    settings: ReplaySettings,
) -> PolicyResult:
    own = [each for each in trainings if each.policy == name and each.slice > 0]
    seconds, first = sum(each.seconds for each in own), next(iter(settings.policies))
    empty = Estimate(0.0, 0.0, 0.0)
    return PolicyResult(
        name=name,
        rule=described(settings.policies[name]),
        ndcg=_estimate(requests, name, "ndcg", settings.resamples, settings) if requests is not None else empty,
        hr=_estimate(requests, name, "hr", settings.resamples, settings) if requests is not None else empty,
        unknown_share=float((requests[name] == MISS).mean()) if requests is not None else 0.0,
        points=[
            Point(
                slice=number,
                champion=records[number].policies[name].champion,
                ndcg=_estimate(found, name, "ndcg", SLICE_RESAMPLES, settings),
                hr=_estimate(found, name, "hr", SLICE_RESAMPLES, settings),
                gain=_difference(found, name, first, "ndcg", SLICE_RESAMPLES, settings)[0],
            )
            for number, found in sorted(ranks.items())
        ],
        trainings=own,
        drifts={
            number: record.policies[name].drifted
            for number, record in records.items()
            if number > 0 and record.policies[name].verdict == "drifted"
        },
        moved=_moved(name, records, settings),
        training_s=round(sum(each.training_s for each in own), 1),
        seconds=round(seconds, 1),
        cost=seconds / 3600 * settings.hourly_price,
    )


def _moved(name: str, records: dict[int, SliceRecord], settings: ReplaySettings) -> dict[int, list[str]]:
    """Return the alarms that the planted shift explains, by slice.

    In a replay of an earlier version, the slice without the shift was not judged. Then the last slice before the shift stands for it.
    """
    if settings.scenario is None:
        return {}
    begin = settings.scenario.from_slice
    before = records[begin - 1].policies.get(name) if begin - 1 in records else None
    found = {}
    for number, record in records.items():
        watch = record.policies.get(name)
        if number < begin or watch is None:
            continue
        usual = watch.unplanted if watch.unplanted is not None else before.drifted if before else []
        moved = [
            check for check in watch.drifted if not check.endswith(LONG_TERM) and check.removesuffix(AS_ARRIVED) not in usual
        ]
        if moved:
            found[number] = moved
    return found


def _differences(requests: pd.DataFrame, settings: ReplaySettings) -> list[Difference]:
    """Compare every pair of policies: the later one minus the earlier one."""
    found: dict[str, tuple[str, str, Estimate, Estimate, float]] = {}
    for b, a in combinations(settings.policies, 2):
        ndcg, means = _difference(requests, a, b, "ndcg", settings.resamples, settings)
        hr, _ = _difference(requests, a, b, "hr", settings.resamples, settings)
        reached = int((np.abs(means - ndcg.mean) >= abs(ndcg.mean) - 1e-15).sum())
        found[f"{a} - {b}"] = (a, b, ndcg, hr, (reached + 1) / (settings.resamples + 1))
    corrected = holm({name: pair[4] for name, pair in found.items()}, settings.alpha)
    return [Difference(*pair, *corrected[name]) for name, pair in found.items()]


def _estimate(frame: pd.DataFrame, name: str, metric: str, resamples: int, settings: ReplaySettings) -> Estimate:
    return _interval(per_request(_column(frame, name), metric, 10), frame, resamples, settings)[0]


def _difference(
    frame: pd.DataFrame, a: str, b: str, metric: str, resamples: int, settings: ReplaySettings
) -> tuple[Estimate, FloatArray]:
    values = per_request(_column(frame, a), metric, 10) - per_request(_column(frame, b), metric, 10)
    return _interval(values, frame, resamples, settings)


def _interval(values: FloatArray, frame: pd.DataFrame, resamples: int, settings: ReplaySettings) -> tuple[Estimate, FloatArray]:
    """Return the mean with its interval, and the resampled means. Users are resampled, each with all of their requests."""
    users = frame["user_id"].to_numpy(np.int64)
    means = clustered_means(values, users, resamples=resamples, seed=settings.bootstrap_seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high)), means


def _slice_result(part: Slice, record: SliceRecord, ranks: pd.DataFrame | None) -> SliceResult:
    return SliceResult(
        number=part.number,
        start=part.start,
        end=part.end,
        delivered=record.delivered,
        accepted=record.accepted,
        duplicates=record.duplicates,
        quarantined=record.quarantined,
        requests=len(ranks) if ranks is not None else 0,
        users=int(ranks["user_id"].nunique()) if ranks is not None else 0,
    )


def _column(frame: pd.DataFrame, name: str) -> IntArray:
    return frame[name].to_numpy(np.int64)
