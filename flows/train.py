"""train: train the candidates on one dataset version, and register them without a decision or hand them over to another run."""

from __future__ import annotations

from prefect import flow

from configs.settings import RetrainSettings
from flows.datasets import chosen_dataset
from infra.locks import run_lock
from infra.registry import ModelRef
from tasks.stages import (
    evaluate_models,
    hand_candidates_over,
    publish_version,
    record_runs,
    show_failure,
    stage_version,
    train_model,
)
from tasks.training import candidate_kinds, clear_checkpoints

__all__ = ["train"]


@flow(name="train", flow_run_name="{settings.model_name} on {settings.data.dataset_name}", on_failure=[show_failure])
def train(
    settings: RetrainSettings = RetrainSettings(),  # noqa: B008
    dataset: str | None = None,
    hand_over: bool = False,
) -> ModelRef | None:
    """Train and register a version without a decision. `promote` judges it later.

    Args:
        settings: Settings of the run.
        dataset: Dataset version `name/version`, by default the newest of the configured source.
        hand_over: Store the candidates for the run that started this one (`training.where: deployment`), without registering
            them.

    Returns:
        The registered version, or None with `hand_over`.
    """
    with run_lock(settings.work_dir, settings.model_name):
        chosen = chosen_dataset(dataset, settings.data, settings.store)
        candidates = [train_model(chosen, kind, settings) for kind in candidate_kinds(settings.models)]
        if hand_over:
            hand_candidates_over(candidates, settings)
            clear_checkpoints(settings)
            return None
        evaluation = evaluate_models(chosen, candidates, settings)
        staged = stage_version(evaluation, settings)
        version = publish_version(staged, None, candidates[-1], evaluation, settings)
        record_runs(candidates, evaluation, None, version, settings)
        clear_checkpoints(settings)
    return version


if __name__ == "__main__":
    print(train())
