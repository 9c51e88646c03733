"""How well the champion ranks the next day's events, and how well each policy of retraining would have done.

A policy trains the champion's kind on all events that had arrived when it trained, at its own times and without a gate. All models of a
week rank the same requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.year.installation import MODEL
from configs.settings import EvaluationSettings, ModelSettings
from infra.registry import ModelRegistry
from infra.storage import Store
from models.evaluation import masks_seen, per_request, rank_requests
from models.loading import make_recommender
from models.plugins import load_apart
from models.recommender import Recommender, Requests, Sequences
from tasks.monitoring import live_requests

__all__ = ["POLICIES", "LiveQuality", "champion_at", "events_of"]

POLICIES: dict[str, Callable[[int], bool]] = {
    "each day": lambda day: True,
    "each week": lambda day: day % 7 == 0,
    "each month": lambda day: day % 28 == 0,
    "never again": lambda day: day == 0,
}
"""When each policy trains, by the number of the day."""
EVALUATION = EvaluationSettings()
REQUESTS = 200  # that are ranked of each day
VALID = 20  # requests that the kind's training wants to see


@dataclass
class LiveQuality:
    """NDCG@10 of the champion and of each policy, by day."""

    kind: str
    settings: ModelSettings
    rows: list[dict[str, float]] = field(default_factory=list)
    _models: dict[str, Recommender] = field(default_factory=dict)
    _champion: tuple[str, Recommender] | None = None

    def train(self, day: int, arrived: pd.DataFrame) -> None:
        """Train the policies that train on this day.

        Args:
            day: Number of the day.
            arrived: All events that have arrived: user_id, item_id, timestamp.
        """
        due = [name for name, trains in POLICIES.items() if trains(day)]
        if due:
            model = self._fitted(arrived)
            self._models |= dict.fromkeys(due, model)

    def measure(self, day: int, store: Store, version: str, known: pd.DataFrame, since: int) -> None:
        """Let the champion of a day and the policies rank the day's events.

        Args:
            day: Number of the day.
            store: The store.
            version: The day's champion.
            known: All events up to the end of the day.
            since: Begin of the day (UTC seconds).
        """
        asked = live_requests(known, since - 1, EVALUATION, limit=REQUESTS, seed=day)
        if not len(asked):
            return
        if self._champion is None or self._champion[0] != version:
            registry = ModelRegistry(store)
            with registry.fetched(registry.version(MODEL, version), serving=True) as folder:
                self._champion = version, load_apart(folder)
        ranked = {"champion": self._champion[1], **self._models}
        known_models: dict[int, float] = {}
        for model in ranked.values():
            if id(model) not in known_models:
                known_models[id(model)] = _ndcg(model, asked)
        self.rows.append(
            {"day": day, "requests": len(asked), **{name: known_models[id(model)] for name, model in ranked.items()}}
        )

    def weeks(self) -> list[dict[str, float]]:
        """Return the means of each week with events, and the champion's as a share of the best policy's."""
        found = []
        frame = pd.DataFrame(self.rows)
        for week, rows in frame.groupby(frame["day"] // 7):
            means = {name: float(np.average(rows[name], weights=rows["requests"])) for name in ("champion", *POLICIES)}
            best = max(means[name] for name in POLICIES)
            found.append({"week": int(week), "requests": int(rows["requests"].sum()), **means, "share": means["champion"] / best})
        return found

    def _fitted(self, events: pd.DataFrame) -> Recommender:
        model = make_recommender(self.kind, self.settings)
        events = events.sort_values(["user_id", "timestamp"], kind="stable")
        users, counts = np.unique(events["user_id"].to_numpy(), return_counts=True)
        train = Sequences(
            user_ids=users.astype(np.int64),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            item_ids=events["item_id"].to_numpy(np.int64),
            timestamps=events["timestamp"].to_numpy(np.int64),
            ties_drawn=True,
        )
        valid = live_requests(events, int(events["timestamp"].quantile(0.99)), EVALUATION, limit=VALID, seed=0)
        catalogue = np.unique(events["item_id"].to_numpy(np.int64))
        model.fit(train, valid, catalogue, seed=0, mask_seen=masks_seen(EVALUATION.protocol, model.sequential))
        return model


def champion_at(store: Store, moment: float) -> str | None:
    """Return the version that was the champion at a moment (UTC seconds), by the promotion log."""
    found = None
    for entry in ModelRegistry(store).history(MODEL):
        if pd.Timestamp(entry.when).timestamp() <= moment:
            found = entry.version
    return found


def events_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return delivered events with the names of columns that the product uses inside."""
    return frame.rename(columns={"userId": "user_id", "movieId": "item_id"})


def _ndcg(model: Recommender, asked: Requests) -> float:
    masked = masks_seen(EVALUATION.protocol, model.sequential)
    ranking = rank_requests(model, asked, model.catalogue, mask_seen=masked, batch_size=EVALUATION.batch_size)
    return float(per_request(ranking.ranks, "ndcg", 10).mean())
