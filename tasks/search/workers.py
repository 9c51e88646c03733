"""Workers that train the trials of a study. Any number of them, from one run or several, share a study."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial

import optuna
import torch
from optuna.trial import TrialState

from configs.base import Settings
from configs.cores import threads_of_each
from configs.errors import TrainingError
from configs.kinds import place_of, spec_of
from configs.studies import SearchSettings
from infra.locks import turn
from infra.storage import Store, open_store
from infra.study_storage import answering
from models.recommender import OnEpoch
from models.search import Train, TrialData, run_trial, train_trial
from tasks.datasets import DatasetRef, read_table
from tasks.search.study import StudyRef, load_study, study_lock, study_url
from tasks.search.trials import DEFECT, REASON, TrialRecord, defects, trial_record, used_trials
from tasks.training import read_split, run_apart

__all__ = ["run_trials"]

POLL_S = 1.0


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
    torch.set_num_threads(threads_of_each(options.workers))
    train = _trainer(store, dataset, settings)
    ended, deadline, idle_since = 0, time.monotonic() + (options.seconds or float("inf")), None
    with answering(study_url(settings)):
        study = load_study(ref.name, settings, worker, ref.begun)
        while time.monotonic() < deadline:
            with ExitStack() as claim:  # if two workers see one trial left, only one takes it
                claim.enter_context(turn(study_lock(ref.name, settings)))
                _fail_lost(study, options.lost_after_s)
                trials = study.get_trials(deepcopy=False)
                if defects(trials) > ref.defects:
                    break
                if used_trials(trials) < options.trials:
                    idle_since = None
                    number = _run_one(study, claim, train, settings, on_epoch)
                    records = [trial_record(trial) for trial in study.get_trials(deepcopy=False)]
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


def _trainer(store: Store, dataset: DatasetRef, settings: SearchSettings) -> Train:
    """Return what trains the model of a trial. A plugin's model gets a process of its own, which is ended if it hangs."""
    spec = spec_of(settings.challenger)
    if place_of(spec.kind) is None:
        return partial(train_trial, spec, _data(store, dataset, settings), settings.search.seed)

    def apart(wanted: Settings, on_epoch: OnEpoch) -> float:
        return run_apart(
            _train_apart,
            dataset,
            settings,
            wanted,
            trains=f"a trial of {spec.kind}",
            on_epoch=on_epoch,
            threads=torch.get_num_threads(),
            if_killed="Lower the model's batch or search.workers, and run again: the trials that have ended are kept.",
            silence_s=settings.models.plugin_silence_s,
        )

    return apart


def _train_apart(dataset: DatasetRef, settings: SearchSettings, wanted: Settings, on_epoch: OnEpoch | None) -> float:
    data = _data(open_store(settings.store), dataset, settings)
    return train_trial(spec_of(settings.challenger), data, settings.search.seed, wanted, on_epoch)


def _data(store: Store, dataset: DatasetRef, settings: SearchSettings) -> TrialData:
    users, items = (read_table(store, dataset, name) for name in ("users", "items"))
    return TrialData.of(read_split(store, dataset, settings.evaluation), users, items)


def _run_one(study: optuna.Study, claim: ExitStack, train: Train, settings: SearchSettings, on_epoch: OnEpoch | None) -> int:
    """Take a trial, release the claim, run the trial, and return its number."""
    spec, taken = spec_of(settings.challenger), -1
    base = settings.models.of(spec.kind)

    def objective(trial: optuna.Trial) -> float:
        nonlocal taken
        taken = trial.number
        claim.close()
        try:
            return run_trial(trial, settings.parameters, spec, base, train, on_epoch)
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
