"""A study: its definition, its database and its lock.

The study's definition (dataset, protocol, seed, search space, fixed settings) is stored when the study is created. A run with
another definition is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from configs.errors import SettingsError
from configs.kinds import spec_of
from configs.studies import SearchSettings
from infra.locks import turn
from infra.study_storage import answering, open_storage, shown
from models.search import make_pruner, make_sampler
from tasks.datasets import DatasetRef
from tasks.search.trials import defects

__all__ = ["StudyRef", "definition_of", "load_study", "open_study", "study_lock", "study_url"]

DEFINITION = "search"  # user attribute of a study


@dataclass(frozen=True)
class StudyRef:
    """A study and its state when the run opened it."""

    name: str
    storage: str  # for display: without user and password
    begun: int  # trials that had started
    defects: int  # of these, trials that ended with an unexpected exception
    starts_with_base: bool  # whether the challenger's settings lie within the search space and are therefore the first trial


def open_study(dataset: DatasetRef, settings: SearchSettings) -> StudyRef:
    """Open the study, or create it with its definition and with the challenger's settings queued as its first trial.

    Raises:
        SettingsError: A study with this name has another definition.
    """
    name, own = _name(dataset, settings), settings.models.of(settings.challenger)
    base = {key: getattr(own, key) for key in settings.parameters}
    inside = all(parameter.holds(base[key]) for key, parameter in settings.parameters.items())
    with answering(study_url(settings)), turn(study_lock(name, settings)):
        study = load_study(name, settings)
        wanted, found = definition_of(dataset, settings), study.user_attrs.get(DEFINITION)
        if found is None:
            if study.get_trials(deepcopy=False):
                raise SettingsError(
                    f"The study {name} in {shown(study_url(settings))} was not created by a search of this product. Give "
                    "search.study another name."
                )
            if inside:
                study.enqueue_trial(base, skip_if_exists=True)
            study.set_user_attr(DEFINITION, wanted)
        else:
            _refuse_other(name, wanted, found)
        trials = study.get_trials(deepcopy=False)
    begun = sum(trial.state != TrialState.WAITING for trial in trials)
    return StudyRef(name, shown(study_url(settings)), begun, defects(trials), inside)


def load_study(name: str, settings: SearchSettings, worker: int = 0, begun: int = 0) -> optuna.Study:
    options = settings.search
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is reported by its reason, not by a traceback
    storage = open_storage(study_url(settings), lost_after_s=options.lost_after_s, retries=options.retries)
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        sampler=make_sampler(options.seed, worker=worker, begun=begun),
        pruner=make_pruner(options.pruning),
        load_if_exists=True,
    )


def definition_of(dataset: DatasetRef, settings: SearchSettings) -> dict[str, Any]:
    """Return everything that must be equal for the values of trials to be comparable."""
    left_out = {*settings.parameters, *spec_of(settings.challenger).not_searched}  # such as replicas: a trial has one
    fixed = settings.models.of(settings.challenger).model_dump(mode="json", exclude=left_out)
    space = {name: parameter.model_dump(mode="json", exclude_defaults=True) for name, parameter in settings.parameters.items()}
    found: dict[str, Any] = {
        "dataset": f"{dataset.name}/{dataset.version}",
        "protocol": settings.evaluation.protocol_id_for(dataset.properties.repeats),
        "seed": settings.search.seed,
        "space": space,
        f"models.{settings.challenger}": fixed,
    }
    return found


def study_url(settings: SearchSettings) -> str:
    given = settings.search.storage
    return given.get_secret_value() if given else f"sqlite:///{settings.work_dir.absolute() / 'searches.db'}"


def study_lock(name: str, settings: SearchSettings) -> Path:
    return settings.work_dir / "searches" / f"{name}.lock"


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
