"""Measure how well the champion ranks events after its training, compared with what its holdout promised.

Each new event is a request. All earlier events of the user, including new ones, are its history. The item is ranked among all
items that the champion can recommend, by the rules of the champion's own protocol. An item that the champion does not know is a
miss, as it is for the user. Events of one user are alike, so the intervals resample users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import VersionCorruptError
from configs.loading import read_recorded
from configs.settings import DriftSettings, EvaluationSettings
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.evaluation import ORDERINGS, clustered_means, exact_order, masks_seen, per_request, rank_requests
from models.plugins import load_apart
from models.recommender import IntArray, Requests
from tasks.monitoring.checks import Check, critical_of, not_judged

__all__ = ["LIVE", "LiveQuality", "Quality", "live_check", "live_quality", "live_requests", "measured"]

LIVE = "live NDCG@10"
METHOD = "relative loss of NDCG@10 against the holdout"
RESAMPLES = 2000
LEAST_USERS = 20
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """Means over requests, with 95 % intervals from a bootstrap over users."""

    requests: int
    users: int
    hr_at_10: float
    hr_interval: tuple[float, float]
    ndcg_at_10: float
    ndcg_interval: tuple[float, float]


@dataclass(frozen=True)
class LiveQuality:
    """The champion's quality on events after its training, and on its holdout; JSON-serialisable."""

    champion: str
    trained_until: int  # UTC seconds that the events of its dataset reach
    new_events: int  # after that; `live` is measured on a sample of them
    live: Quality | None  # None if there are no new events
    like_holdout: Quality | None  # of these, only requests by users with some history, for items that the champion knows
    holdout: Quality
    loss: float | None  # relative loss of NDCG@10
    p_value: float | None  # one-sided, under the hypothesis of no loss
    by_chance: FloatArray | None = field(default=None, repr=False, compare=False)  # (resamples,) losses; None once it is judged


def live_quality(
    store: Store,
    champion: ModelRef,
    events: pd.DataFrame,
    trained_until: int,
    *,
    requests: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LiveQuality:
    """Rank a sample of the events after `trained_until` with the champion, as it is served.

    Args:
        events: user_id, item_id and timestamp of all events known so far.
        trained_until: UTC seconds that the events reach which the champion could learn from.
        requests: Maximum size of the sample.
        resamples: Number of resamples that the p-value comes from.

    Raises:
        VersionCorruptError: The champion's files are not the ones it was sealed with, or a newer release wrote it.
    """
    registry = ModelRegistry(store)
    manifest = registry.manifest(champion.name, champion.version)
    settings = read_recorded(
        EvaluationSettings, manifest["lineage"]["settings"]["evaluation"], f"The champion {champion.version}"
    )
    asked = live_requests(events, trained_until, settings, limit=requests, seed=seed)
    with registry.fetched(champion, serving=True) as folder:
        holdout = _holdout_ranks(folder, champion.kind)
        model = load_apart(folder)
        masked = masks_seen(champion.protocol, model.sequential)
        ranking = rank_requests(model, asked, model.catalogue, mask_seen=masked, batch_size=settings.batch_size)
        like = np.isin(asked.targets, model.catalogue) & (asked.lengths >= max(settings.k_core - 1, 1))
    loss = p_value = by_chance = None
    if len(asked):
        loss, by_chance = _loss((ranking.ranks, asked.user_ids), (holdout[1], holdout[0]), resamples, seed)
        p_value = (int((by_chance >= loss - 1e-12).sum()) + 1) / (resamples + 1)
    return LiveQuality(
        champion=champion.version,
        trained_until=trained_until,
        new_events=int((events["timestamp"] > trained_until).sum()),
        live=measured(ranking.ranks, asked.user_ids, seed),
        like_holdout=measured(ranking.ranks[like], asked.user_ids[like], seed),
        holdout=_certain(measured(holdout[1], holdout[0], seed), champion),
        loss=loss,
        p_value=p_value,
        by_chance=by_chance,
    )


def live_check(quality: LiveQuality | None, reason: str, settings: DriftSettings) -> Check:
    """Return the champion's loss as a drift check. `reason` explains why `quality` is None."""
    if quality is None or quality.live is None or quality.loss is None:
        return not_judged(LIVE, METHOD, reason or "Nothing has happened since the champion was trained.")
    live, holdout = quality.live, quality.holdout
    detail = (
        f"{live.ndcg_at_10:.4f} ({live.ndcg_interval[0]:.4f} to {live.ndcg_interval[1]:.4f}) on {live.requests:,} events after "
        f"training; holdout {holdout.ndcg_at_10:.4f} ({holdout.ndcg_interval[0]:.4f} to {holdout.ndcg_interval[1]:.4f})"
    )
    if live.users < LEAST_USERS:
        return not_judged(LIVE, METHOD, f"The new events are by {live.users} users, too few to judge: {detail}.", live.ndcg_at_10)
    return Check(
        name=LIVE,
        method=METHOD,
        reference=holdout.ndcg_at_10,
        current=live.ndcg_at_10,
        effect=quality.loss,
        bound=settings.max_live_drop,
        p_value=quality.p_value,
        critical=critical_of(quality.by_chance) if quality.by_chance is not None else None,
        detail=detail,
    )


def live_requests(events: pd.DataFrame, after: int, settings: EvaluationSettings, *, limit: int, seed: int) -> Requests:
    """Return requests for at most `limit` random events later than `after` (UTC seconds), with all earlier events of their users.

    Events of the same second are in the protocol's drawn order. A user may have several requests.
    """
    users, items, times = (events[name].to_numpy(np.int64) for name in ("user_id", "item_id", "timestamp"))
    order = exact_order(users, items, times, settings.tie_seed)
    users, items, times = users[order], items[order], times[order]
    new = np.flatnonzero(times > after)
    if len(new) > limit:
        new = np.sort(np.random.default_rng(seed).choice(new, size=limit, replace=False))
    first = np.searchsorted(users, users[new], side="left")
    lengths = new - first
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    index = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], lengths) + np.repeat(first, lengths)
    request_times = times[new]
    if settings.query_time == "last":
        request_times = np.where(lengths > 0, times[np.maximum(new - 1, 0)], request_times)
    return Requests(
        user_ids=users[new],
        offsets=offsets,
        item_ids=items[index],
        timestamps=times[index],
        ties_drawn=ORDERINGS[settings.protocol] == "exact-drawn",
        request_times=request_times,
        targets=items[new],
    )


def measured(ranks: IntArray, users: IntArray, seed: int) -> Quality | None:
    """Return HR@10 and NDCG@10 of `ranks` (R,) with their intervals, or None if there are no ranks."""
    if len(ranks) == 0:
        return None
    found = []
    for metric in ("hr", "ndcg"):
        values = per_request(ranks, metric, 10)
        low, high = np.quantile(clustered_means(values, users, resamples=RESAMPLES, seed=seed), [0.025, 0.975])
        found += [float(values.mean()), (float(low), float(high))]
    return Quality(len(ranks), len(np.unique(users)), *found)  # type: ignore[arg-type]


def _loss(
    live: tuple[IntArray, IntArray], holdout: tuple[IntArray, IntArray], resamples: int, seed: int
) -> tuple[float, FloatArray]:
    """Return the relative loss of NDCG@10, and the losses (resamples,) by chance alone. Each side is ranks and users.

    Users of both sides are resampled independently.
    """
    (now, live_users), (before, holdout_users) = ((per_request(ranks, "ndcg", 10), users) for ranks, users in (live, holdout))
    apart = float(now.mean() - before.mean())
    drawn = clustered_means(now, live_users, resamples=resamples, seed=seed) - clustered_means(
        before, holdout_users, resamples=resamples, seed=seed + 1
    )
    scale = max(float(before.mean()), 1e-12)
    return -apart / scale, (apart - drawn) / scale


def _holdout_ranks(folder: Path, kind: str) -> tuple[IntArray, IntArray]:
    """Load the users and ranks of the version's own test requests."""
    try:
        frame = pd.read_parquet(folder / "ranks.parquet", columns=["user_id", f"rank_{kind}"])
    except (OSError, ValueError, KeyError) as error:
        raise VersionCorruptError(
            f"The champion's ranks.parquet cannot be read ({error}), so its holdout quality is unknown; train again."
        ) from error
    return frame["user_id"].to_numpy(np.int64), frame[f"rank_{kind}"].to_numpy(np.int64)


def _certain(quality: Quality | None, champion: ModelRef) -> Quality:
    if quality is None:
        raise VersionCorruptError(f"The champion {champion.version} has no holdout ranks; train again.")
    return quality
