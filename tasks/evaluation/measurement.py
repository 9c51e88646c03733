"""Measure a run's candidates on the test requests. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import TrainingError
from configs.kinds import place_of
from configs.settings import EvaluationSettings, RetrainSettings
from infra.registry import refuse_changed
from infra.storage import Store
from models.evaluation import (
    Ranking,
    Split,
    confidence_intervals,
    genres_of,
    list_metric_intervals,
    metrics,
    per_request_metrics,
)
from models.plugins import load_apart
from tasks.datasets import DatasetRef, read_table
from tasks.evaluation.business_value import Value, value_of
from tasks.evaluation.load_check import repeated, sample_requests
from tasks.evaluation.ranking import rank
from tasks.evaluation.rating_errors import RatingErrors, errors_of_ratings
from tasks.evaluation.slices import request_slices
from tasks.training import Candidate, read_split

__all__ = ["Evaluation", "Measurement", "evaluate"]

BEYOND_RESAMPLES = 2000  # for intervals that the gate does not use


@dataclass(frozen=True)
class Evaluation:
    """Test metrics by model and slice; JSON-serialisable."""

    protocol: str
    dataset: str
    requests: int
    metrics: dict[str, dict[str, dict[str, float]]]  # model -> slice ("all" first) -> metric
    intervals: dict[
        str, dict[str, tuple[float, float]]
    ]  # model -> metric that is a mean over requests -> 95 % bootstrap interval
    beyond_accuracy: dict[str, dict[str, float]]  # model -> metric; with rmse and mae of ratings if the model predicts them
    value: Value


@dataclass(frozen=True, eq=False)
class Measurement:
    """An evaluation, with what it was measured on and the models' own answers."""

    evaluation: Evaluation
    challenger_kind: str
    parts: Split
    rankings: dict[str, Ranking]  # model -> ranks of all test requests
    samples: list[dict[str, Any]]  # some test requests with the challenger's answers, for the load check


def evaluate(
    store: Store,
    dataset: DatasetRef,
    candidates: list[Candidate],
    challenger_kind: str,
    settings: RetrainSettings,
) -> Measurement:
    """Rank every candidate on the test requests of `dataset`.

    Args:
        store: Store of the dataset.
        dataset: Dataset version that the candidates were trained on.
        candidates: The challenger and its baselines.
        challenger_kind: Kind of the candidate that is to become a version.
        settings: Settings of the run.

    Raises:
        VersionCorruptError: A candidate's files have changed since training.
    """
    parts = read_split(store, dataset, settings.evaluation)
    rankings: dict[str, Ranking] = {}
    samples: list[dict[str, Any]] = []
    resamples, seed = settings.promotion.resamples, settings.promotion.bootstrap_seed
    ratings: dict[str, RatingErrors] = {}
    for candidate in candidates:
        refuse_changed(Path(candidate.folder), candidate.files, since="trained", more=True)
        model = load_apart(Path(candidate.folder))
        rankings[candidate.kind] = rank(model, parts, settings.evaluation)
        ratings[candidate.kind] = errors_of_ratings(model, parts.test, batch_size=settings.evaluation.batch_size, seed=seed)
        plugin = place_of(candidate.kind) is not None
        if plugin or candidate.kind == challenger_kind:
            answers = sample_requests(model, parts.test, count=settings.promotion.sample_requests, seed=settings.seed)
            if plugin:
                _refuse_other_answers(candidate, answers)
            if candidate.kind == challenger_kind:
                samples = answers
    nouns = settings.data.nouns
    masks = request_slices(store, dataset, parts, settings.evaluation.slices, nouns)
    genres = genres_of(read_table(store, dataset, "items"))
    beyond = {
        name: list_metric_intervals(ranking, parts.train, parts.test, genres, resamples=BEYOND_RESAMPLES, seed=seed)
        for name, ranking in rankings.items()
    }
    evaluation = Evaluation(
        protocol=parts.id,
        dataset=f"{dataset.name}/{dataset.version}",
        requests=len(parts.test),
        metrics={name: _by_slice(ranking, masks, settings.evaluation) for name, ranking in rankings.items()},
        intervals={
            name: _intervals(ranking, settings) | beyond[name][1] | ratings[name].intervals for name, ranking in rankings.items()
        },
        beyond_accuracy={name: values | ratings[name].metrics for name, (values, _) in beyond.items()},
        value=value_of(rankings, challenger_kind, settings.business_value, nouns, resamples=resamples, seed=seed),
    )
    return Measurement(evaluation, challenger_kind, parts, rankings, samples)


def _refuse_other_answers(candidate: Candidate, answers: list[dict[str, Any]]) -> None:
    """Ask a plugin's model again in a new process. The gate's load check does so for the challenger only."""
    again = repeated(load_apart(Path(candidate.folder)), answers)
    if again.reason:
        raise TrainingError(
            f"The model {candidate.kind} of the plugin {place_of(candidate.kind)} cannot be used: in a new process {again.reason}. "
            "Its answers must depend on its files and the request only: mend the plugin, or remove "
            f"{candidate.kind} from challenger and baselines."
        )


def _intervals(ranking: Ranking, settings: RetrainSettings) -> dict[str, tuple[float, float]]:
    columns = per_request_metrics(ranking.ranks, settings.evaluation.ks)
    return confidence_intervals(columns, resamples=settings.promotion.resamples, seed=settings.promotion.bootstrap_seed)


def _by_slice(ranking: Ranking, masks: Mapping[str, Any], settings: EvaluationSettings) -> dict[str, dict[str, float]]:
    rows = {"all": np.ones(len(ranking.ranks), dtype=bool), **masks}
    return {
        name: {"requests": int(mask.sum()), **metrics(ranking.ranks[mask], settings.ks)} if mask.any() else {}
        for name, mask in rows.items()
    }
