"""The results of a search: its progress, its record in the store, and the best settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import optuna

from configs.errors import TrainingError
from configs.settings import RetrainSettings, SearchOrigin
from configs.studies import SearchSettings
from infra.storage import Store
from infra.study_storage import answering
from models.search import METRIC
from tasks.datasets import DatasetRef
from tasks.search.study import StudyRef, definition_of, load_study, study_url
from tasks.search.trials import LOST, TrialRecord, trial_record

__all__ = ["SearchRecord", "best_settings", "conclude_study", "search_progress"]

IMPORTANCE_FROM = 10  # minimum number of complete trials; with fewer, importances are noise


@dataclass(frozen=True)
class SearchRecord:
    """Results of a search, stored as `searches/<study>/<stamp>.json`."""

    study: str
    storage: str
    key: str
    dataset: str
    protocol: str
    metric: str
    seed: int
    base: dict[str, Any]  # the challenger's settings, which each trial's parameters override
    space: dict[str, Any]
    trials: list[TrialRecord]
    best: int | None  # number of the best complete trial
    importance: dict[str, float]  # parameter -> share of what separates the best trials from the others (PED-ANOVA)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def best_trial(self) -> TrialRecord:
        """The best complete trial. Raises TrainingError if no trial is complete."""
        if self.best is None:
            reasons = sorted({trial.reason for trial in self.trials if trial.reason})
            raise TrainingError(
                f"No trial of the study {self.study} is complete, so there is no best one: {len(self.trials)} were started. "
                f"{reasons[0] if reasons else 'Increase search.trials or search.seconds.'}"
            )
        return next(trial for trial in self.trials if trial.number == self.best)

    @property
    def ended(self) -> int:
        """Number of trials that have ended and count: those of lost workers are trained again."""
        counted = ("complete", "pruned")
        return sum(trial.state in counted or (trial.state == "failed" and trial.reason != LOST) for trial in self.trials)

    @property
    def under_way(self) -> int:
        """Number of trials that other runs are still training."""
        return sum(trial.state == "running" for trial in self.trials)


def conclude_study(store: Store, dataset: DatasetRef, ref: StudyRef, settings: SearchSettings, now: datetime) -> SearchRecord:
    """Read the study, and store and return its record."""
    with answering(study_url(settings)):
        study = load_study(ref.name, settings)
        trials = [trial_record(trial) for trial in study.get_trials(deepcopy=False)]
        complete = [trial for trial in trials if trial.state == "complete"]
        importance = optuna.importance.get_param_importances(study) if len(complete) >= IMPORTANCE_FROM else {}
    best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
    definition = definition_of(dataset, settings)
    record = SearchRecord(
        study=ref.name,
        storage=ref.storage,
        key=f"searches/{ref.name}/{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.json",
        dataset=definition["dataset"],
        protocol=definition["protocol"],
        metric=f"valid {METRIC}",
        seed=settings.search.seed,
        base=settings.models.of(settings.challenger).model_dump(mode="json"),
        space=definition["space"],
        trials=trials,
        best=best.number if best else None,
        importance={name: round(float(share), 4) for name, share in importance.items()},
    )
    store.put_new(record.key, json.dumps(record.to_dict(), indent=2).encode())
    return record


def best_settings(record: SearchRecord, settings: SearchSettings) -> RetrainSettings:
    """Return the settings of a retraining with the best trial's parameters. Raises TrainingError if no trial is complete."""
    best = record.best_trial
    return settings.with_parameters(
        best.parameters,
        SearchOrigin(
            study=record.study,
            record=record.key,
            dataset=record.dataset,
            trials=sum(trial.state in ("complete", "pruned") for trial in record.trials),
            best_trial=best.number,
            valid_ndcg_at_10=best.value or 0.0,
        ),
    )


def search_progress(trials: Sequence[TrialRecord], wanted: int) -> tuple[float, str]:
    """Return the progress of a study in percent, with a one-line summary."""
    ended = sum(trial.state in ("complete", "pruned") or bool(trial.state == "failed" and trial.reason) for trial in trials)
    best = max((t for t in trials if t.state == "complete"), key=lambda t: t.value or 0.0, default=None)
    said = f"; best valid NDCG@10 {best.value:.4f} in trial {best.number}" if best else ""
    return min(100.0, 100 * ended / wanted), f"{ended} of {wanted} trials{said}"
