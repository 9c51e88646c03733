"""train: train the candidates on one dataset version. Register them without a decision, or upload them for another run."""

from __future__ import annotations

from typing import Literal, overload

from prefect import flow

from configs.errors import TrainingError
from configs.settings import RetrainSettings
from flows.challenge import Clock, beginning_of, evaluate_candidates, register_unjudged, train_inline
from flows.forms import with_form
from infra.leases import leased
from infra.locks import run_lock
from infra.registry import ModelRef
from infra.storage import open_store
from tasks.datasets import DatasetRef, chosen_dataset
from tasks.stages import publish_failure_artifact, refit_model, upload_trained
from tasks.stages.endings import dated, ended, fails_with_a_sentence
from tasks.training import Candidate, clear_checkpoints

__all__ = ["train"]


@overload
def train(
    settings: RetrainSettings = ...,
    dataset: str | None = ...,
    hand_over: Literal[False] = ...,
    refit_epochs: None = ...,
    parent: str | None = ...,
) -> ModelRef: ...
@overload
def train(
    settings: RetrainSettings,
    dataset: str | None,
    hand_over: Literal[True],
    refit_epochs: int | None = ...,
    parent: str | None = ...,
) -> None: ...
@with_form(
    "model_name",
    "data.source",
    "data.local_path",
    "data.landing",
    "challenger",
    "store.url",
    hidden=("hand_over", "refit_epochs", "parent"),
)
@flow(
    name="train",
    flow_run_name=dated("{settings.model_name} on {settings.data.dataset_name}"),
    on_failure=[publish_failure_artifact],
)
@fails_with_a_sentence
def train(
    settings: RetrainSettings = RetrainSettings(),  # noqa: B008
    dataset: str | None = None,
    hand_over: bool = False,
    refit_epochs: int | None = None,
    parent: str | None = None,
) -> ModelRef | None:
    """Train and register a version without a decision. `promote` judges it later.

    Args:
        settings: Settings of the run.
        dataset: Dataset version `name/version`, by default the newest of the configured source.
        hand_over: Upload the candidates for the run that started this one (`training.where: deployment`), without registering
            them.
        refit_epochs: With `hand_over`: train the challenger only, on all events, for so many epochs (`training.refit`).
        parent: With `hand_over`: version whose weights the challenger begins with (`training.warm_start`).

    Returns:
        The registered version, or None with `hand_over`.
    """
    with run_lock(settings.work_dir, settings.model_name):
        clock = Clock()
        chosen = chosen_dataset(dataset, settings.data, settings.store, settings.model_name)
        version = None
        with leased(open_store(settings.store), f"a training of {settings.model_name}", [chosen.prefix]):
            if hand_over and refit_epochs is not None:
                upload_trained([_refit(chosen, refit_epochs, parent, settings, clock)], settings)
            elif hand_over:
                upload_trained(train_inline(chosen, settings, clock, parent).candidates, settings)
            else:
                beginning = beginning_of(chosen, settings, clock)
                trained = train_inline(chosen, settings, clock, beginning.parent).began(beginning)
                version = register_unjudged(evaluate_candidates(trained, chosen, settings, clock), settings, clock)
        clear_checkpoints(settings)
    if version is None:
        return ended("Handed over", "The candidates are in the store, for the run that requested them.", None)
    said = f"NDCG@10 {version.metrics['ndcg@10']:.4f}. It is not judged yet: `recsys model promote {version.version}` does that."
    return ended("Registered", said, version, f"{version.name} {version.version}")


def _refit(dataset: DatasetRef, epochs: int, parent: str | None, settings: RetrainSettings, clock: Clock) -> Candidate:
    """Return the challenger, trained on all events. Raises TrainingError if it cannot be trained so."""
    found = clock("refit", refit_model, dataset, settings.challenger, epochs, settings, parent)
    if isinstance(found, str):
        raise TrainingError(found)
    return found


if __name__ == "__main__":
    print(train())
