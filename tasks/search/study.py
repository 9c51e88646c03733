"""Hyperparameter search for SS4Rec: a study in a database, workers that train its trials, and a record in the store.

Any number of workers, from one run or several, take trials from one study until it has the configured number. The study's
definition (dataset, protocol, seed, search space, fixed settings) is stored when the study is created. A run with another
definition is refused.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from configs.errors import SettingsError, TrainingError
from configs.settings import RetrainSettings, SearchOrigin
from configs.studies import SearchSettings
from infra.locks import turn
from infra.storage import Store
from infra.study_storage import answering, open_storage, shown
from models.recommender import OnEpoch
from models.search import METRIC, TrialData, make_pruner, make_sampler, run_trial
from tasks.datasets import DatasetRef, read_table
from tasks.training import read_split

__all__ = [
    "SearchRecord",
    "StudyRef",
    "TrialRecord",
    "best_settings",
    "conclude_study",
    "open_study",
    "run_trials",
    "search_progress",
]

State = Literal["complete", "pruned", "failed", "running", "waiting"]
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
DEFINITION, REASON, DEFECT = "search", "reason", "defect"  # user attributes of a study, and of its trials
IMPORTANCE_FROM = 10  # minimum number of complete trials; with fewer, importances are noise
POLL_S = 1.0


@dataclass(frozen=True)
class StudyRef:
    """A study and its state when the run opened it."""

    name: str
    storage: str  # for display: without user and password
    begun: int  # trials that had started
    defects: int  # of these, trials that ended with an unexpected exception
    starts_with_base: bool  # whether models.ss4rec lies within the search space and is therefore the first trial


@dataclass(frozen=True)
class TrialRecord:
    """One trial, as stored and displayed."""

    number: int
    state: State
    value: float | None  # best valid NDCG@10 so far
    best_epoch: int | None
    epochs: int
    seconds: float | None
    parameters: dict[str, Any]
    reason: str | None  # why it failed


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
    base: dict[str, Any]  # models.ss4rec, which each trial's parameters override
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
    def under_way(self) -> int:
        """Number of trials that other runs are still training."""
        return sum(trial.state == "running" for trial in self.trials)


def open_study(dataset: DatasetRef, settings: SearchSettings) -> StudyRef:
    """Open the study, or create it with its definition and with models.ss4rec queued as its first trial.

    Raises:
        SettingsError: A study with this name has another definition.
    """
    options, name = settings.search, _name(dataset, settings)
    base = {key: getattr(settings.models.ss4rec, key) for key in options.parameters}
    inside = all(parameter.holds(base[key]) for key, parameter in options.parameters.items())
    with answering(_url(settings)), turn(_lock(name, settings)):
        study = _open(name, settings)
        wanted, found = _definition(dataset, settings), study.user_attrs.get(DEFINITION)
        if found is None:
            if study.get_trials(deepcopy=False):
                raise SettingsError(
                    f"The study {name} in {shown(_url(settings))} was not created by a search of this product. Give "
                    "search.study another name."
                )
            if inside:
                study.enqueue_trial(base, skip_if_exists=True)
            study.set_user_attr(DEFINITION, wanted)
        else:
            _refuse_other(name, wanted, found)
        trials = study.get_trials(deepcopy=False)
    begun = sum(trial.state != TrialState.WAITING for trial in trials)
    return StudyRef(name, shown(_url(settings)), begun, _defects(trials), inside)


def run_trials(
    store: Store,
    dataset: DatasetRef,
    ref: StudyRef,
    settings: SearchSettings,
    worker: int = 0,
    on_trial: Callable[[TrialRecord, list[TrialRecord]], None] | None = None,
    on_epoch: OnEpoch | None = None,
) -> int:
    """Train trials until the study has `search.trials` or time is up, and return how many this worker trained.

    A trial that diverges is marked as failed, with its reason. Any other exception is a defect: it ends this worker at once, and
    the others after their current trials. If only trials of other workers are left, this worker waits until they have ended or
    would count as lost. It restarts a lost trial.

    Args:
        store: Store with the dataset version.
        dataset: Dataset version to train on.
        ref: The study, as returned by `open_study`.
        settings: Settings of the search.
        worker: Number of this worker within the run.
        on_trial: Called after each trial of this worker, with its record and the records of all trials.
        on_epoch: Called after each epoch.
    """
    options = settings.search
    # As in `train_candidate`, one core is left to other processes. The workers of a run share the rest.
    torch.set_num_threads(max(1, ((os.cpu_count() or 2) - 1) // options.workers))
    data = TrialData.of(read_split(store, dataset, settings.evaluation), read_table(store, dataset, "users"))
    ended, deadline, idle_since = 0, time.monotonic() + (options.seconds or float("inf")), None
    with answering(_url(settings)):
        study = _open(ref.name, settings, worker, ref.begun)
        while time.monotonic() < deadline:
            with ExitStack() as claim:  # if two workers see one trial left, only one takes it
                claim.enter_context(turn(_lock(ref.name, settings)))
                _fail_lost(study, options.lost_after_s)
                trials = study.get_trials(deepcopy=False)
                if _defects(trials) > ref.defects:
                    break
                if _used(trials) < options.trials:
                    idle_since = None
                    number = _run_one(study, claim, data, settings, on_epoch)
                    records = [_record(trial) for trial in study.get_trials(deepcopy=False)]
                    ended += 1
                    if on_trial is not None:
                        on_trial(records[number], records)
                    continue
            idle_since = idle_since or time.monotonic()
            alive = any(trial.state == TrialState.RUNNING for trial in trials)
            if not alive or time.monotonic() - idle_since > options.lost_after_s + 5:
                break
            time.sleep(POLL_S)
    return ended


def conclude_study(store: Store, dataset: DatasetRef, ref: StudyRef, settings: SearchSettings, now: datetime) -> SearchRecord:
    """Read the study, and store and return its record."""
    with answering(_url(settings)):
        study = _open(ref.name, settings)
        trials = [_record(trial) for trial in study.get_trials(deepcopy=False)]
        complete = [trial for trial in trials if trial.state == "complete"]
        importance = optuna.importance.get_param_importances(study) if len(complete) >= IMPORTANCE_FROM else {}
    best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
    definition = _definition(dataset, settings)
    record = SearchRecord(
        study=ref.name,
        storage=ref.storage,
        key=f"searches/{ref.name}/{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.json",
        dataset=definition["dataset"],
        protocol=definition["protocol"],
        metric=f"valid {METRIC}",
        seed=settings.search.seed,
        base=settings.models.ss4rec.model_dump(mode="json"),
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


def _run_one(study: optuna.Study, claim: ExitStack, data: TrialData, settings: SearchSettings, on_epoch: OnEpoch | None) -> int:
    """Take a trial, release the claim, run the trial, and return its number."""
    options, taken = settings.search, -1

    def objective(trial: optuna.Trial) -> float:
        nonlocal taken
        taken = trial.number
        claim.close()
        try:
            return run_trial(trial, options.parameters, settings.models.ss4rec, data, options.seed, on_epoch)
        except TrainingError as error:
            trial.set_user_attr(REASON, str(error))
            raise
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr(DEFECT, repr(error))
            raise

    try:
        study.optimize(objective, n_trials=1, catch=(TrainingError,))
    except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
        # This process was suspended, and its trial was given to another worker: its result no longer counts.
        trial = study.get_trials(deepcopy=False)[taken] if taken >= 0 else None
        if trial is None or trial.state != TrialState.FAIL or DEFECT in trial.user_attrs:
            raise
    return taken


def _open(name: str, settings: SearchSettings, worker: int = 0, begun: int = 0) -> optuna.Study:
    options = settings.search
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is reported by its reason, not by a traceback
    storage = open_storage(_url(settings), lost_after_s=options.lost_after_s, retries=options.retries)
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        sampler=make_sampler(options.seed, worker=worker, begun=begun),
        pruner=make_pruner(options.pruning),
        load_if_exists=True,
    )


def _fail_lost(study: optuna.Study, lost_after_s: int) -> None:
    """Fail trials whose workers were killed. Those that already had parameters are queued again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # Killed before its first heartbeat, which is sent just before it gets parameters: Optuna does not detect that it is lost.
        if not trial.params and trial.datetime_start and _age_s(trial.datetime_start) > 2 * lost_after_s:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _age_s(moment: datetime) -> float:
    return (datetime.now() - moment).total_seconds()  # Optuna stores local time


def _used(trials: Sequence[FrozenTrial]) -> int:
    """Number of trials that count: not those of lost workers, nor those that ended with a defect."""
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return sum(trial.state in counted or REASON in trial.user_attrs for trial in trials)


def _defects(trials: Sequence[FrozenTrial]) -> int:
    return sum(DEFECT in trial.user_attrs for trial in trials)


def _record(trial: FrozenTrial) -> TrialRecord:
    values = trial.intermediate_values
    best = max(values, key=lambda epoch: values[epoch], default=None)
    seconds = trial.duration.total_seconds() if trial.duration else None
    reason = trial.user_attrs.get(REASON) or trial.user_attrs.get(DEFECT)
    if trial.state == TrialState.FAIL and reason is None:
        reason = "Its worker was lost."
    return TrialRecord(
        number=trial.number,
        state=STATES[trial.state],
        value=None if best is None else values[best],
        best_epoch=best,
        epochs=max(values, default=0),
        seconds=None if seconds is None else round(seconds, 1),
        parameters={name: _plain(value) for name, value in trial.params.items()},
        reason=reason,
    )


def _plain(value: Any) -> Any:
    """Round floats to 10 digits: 0.15 instead of 0.15000000000000002 for low + 3 steps."""
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _definition(dataset: DatasetRef, settings: SearchSettings) -> dict[str, Any]:
    """Return everything that must be equal for the values of trials to be comparable."""
    options = settings.search
    fixed = settings.models.ss4rec.model_dump(mode="json", exclude={*options.parameters, "replicas"})  # a trial has one replica
    space = {name: parameter.model_dump(mode="json", exclude_defaults=True) for name, parameter in options.parameters.items()}
    found: dict[str, Any] = {
        "dataset": f"{dataset.name}/{dataset.version}",
        "protocol": settings.evaluation.protocol_id,
        "seed": options.seed,
        "space": space,
        "models.ss4rec": fixed,
    }
    return found


def _refuse_other(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        before = found.get(key)
        if before == value:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            inner = next(k for k in {**value, **before} if value.get(k) != before.get(k))
            key, value, before = f"{key}.{inner}", value.get(inner), before.get(inner)
        raise SettingsError(
            f"The trials of this run are not comparable with those of the study {name}: its {key} is {before}, but this run's is "
            f"{value}. Set the study's value, or give search.study another name to start a new study."
        )


def _name(dataset: DatasetRef, settings: SearchSettings) -> str:
    return settings.search.study or f"{settings.model_name}-{dataset.name}-{dataset.version}"


def _url(settings: SearchSettings) -> str:
    given = settings.search.storage
    return given.get_secret_value() if given else f"sqlite:///{settings.work_dir.absolute() / 'searches.db'}"


def _lock(name: str, settings: SearchSettings) -> Path:
    return settings.work_dir / "searches" / f"{name}.lock"
