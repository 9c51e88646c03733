"""train: the candidates on one dataset version, compared and registered, without a decision."""

from __future__ import annotations

from prefect import flow

from configs.settings import RetrainSettings
from flows.datasets import chosen_dataset
from infra.locks import run_lock
from tasks.candidates import candidate_kinds, clear_checkpoints
from tasks.registry import ModelRef
from tasks.stages import evaluate_models, publish_version, record_runs, stage_version, train_model

__all__ = ["train"]


@flow(name="train")
def train(settings: RetrainSettings = RetrainSettings(), dataset: str | None = None) -> ModelRef:  # noqa: B008
    """Train on a dataset version `name/version`, by default the newest of the configured source. `promote` judges the result."""
    with run_lock(settings.work_dir, settings.model_name):
        chosen = chosen_dataset(dataset, settings.data, settings.store)
        candidates = [train_model(chosen, kind, settings) for kind in candidate_kinds(settings.models)]
        evaluation = evaluate_models(chosen, candidates, settings)
        staged = stage_version(evaluation, settings)
        version = publish_version(staged, None, candidates[-1], evaluation, settings)
        record_runs(candidates, evaluation, None, version, settings)
        clear_checkpoints(settings)
    return version


if __name__ == "__main__":
    print(train())
