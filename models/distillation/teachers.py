"""The networks whose mean prediction another network learns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from configs.errors import TrainingError
from models.losses import SoftTargets
from models.recommender import EpochReport, FitReport, OnEpoch, TeacherEpoch
from models.windows import Batch

__all__ = ["Teacher", "TeacherSettings", "number_of_teachers", "soft_targets", "student_settings"]

logger = logging.getLogger(__name__)
SEEDS_APART = 7919
"""Distance between the seeds of two teachers. Runs whose seeds differ by less have no teacher in common."""


class TeacherSettings(Protocol):
    """The settings of a kind that can learn from teachers."""

    @property
    def teachers(self) -> int: ...
    @property
    def teacher_share(self) -> float: ...
    @property
    def student_dropout(self) -> float: ...
    @property
    def dropout(self) -> float: ...
    @property
    def embedding_dropout(self) -> float: ...
    @property
    def loss(self) -> str: ...
    def model_copy(self, *, update: Mapping[str, Any]) -> Self: ...


S = TypeVar("S", bound=TeacherSettings)


class Teacher(Protocol):
    """A recommender with a network that can be a teacher."""

    @property
    def fit(self) -> Callable[..., FitReport]: ...
    def predict(self, batch: Batch, /) -> Any: ...


def soft_targets(
    make: Callable[[], Teacher],
    settings: TeacherSettings,
    *data: Any,
    seed: int,
    mask_seen: bool,
    folder: Path | None,
    tell: OnEpoch | None,
) -> tuple[SoftTargets | None, float]:
    """Train the teachers that `settings` ask for, one after another, each like a model of its own.

    Args:
        make: Returns a recommender that is not fitted, with the settings of a teacher.
        settings: Those of the network that learns from them.
        data: The train part, the valid requests and the catalogue, as given to `Recommender.fit`.
        seed: Seed of the network that learns from them.
        mask_seen: As given to `Recommender.fit`.
        folder: Of the checkpoints. Each teacher has a folder in it, so that a run which is resumed does not train it again.
        tell: Gets the report of each epoch of each teacher.

    Returns:
        What the teachers predict (None without teachers), and the seconds that their training took.

    Raises:
        TrainingError: if the training of a teacher diverges or collapses.
    """
    teachers, seconds, count = [], 0.0, number_of_teachers(settings)
    for number in range(1, count + 1):
        teacher = make()
        own = None if folder is None else folder / f"teacher-{number}"
        report = teacher.fit(
            *data, seed=seed + number * SEEDS_APART, mask_seen=mask_seen, checkpoint_dir=own, on_epoch=_tells(tell, number, count)
        )
        if report.collapsed:
            raise TrainingError(
                f"Teacher {number} of {count} has learnt nothing that another network could learn from it. {report.collapsed}"
            )
        logger.info("Teacher %d of %d is trained: %s.", number, count, _in_words(report))
        teachers.append(teacher)
        seconds += report.seconds
    return (SoftTargets([teacher.predict for teacher in teachers], settings.teacher_share) if teachers else None), seconds


def number_of_teachers(settings: TeacherSettings) -> int:
    """Return how many teachers a network has: none if its loss is over sampled negatives."""
    return settings.teachers if settings.loss == "cross_entropy" else 0


def student_settings(settings: S) -> S:
    """Return the settings of the network that learns: with teachers, it needs less dropout than they do."""
    if not number_of_teachers(settings):
        return settings
    share = settings.student_dropout
    return settings.model_copy(
        update={"dropout": share * settings.dropout, "embedding_dropout": share * settings.embedding_dropout}
    )


def _tells(tell: OnEpoch | None, teacher: int, teachers: int) -> OnEpoch | None:
    def told(report: EpochReport) -> None:
        assert tell is not None
        tell(TeacherEpoch(**vars(report), teacher=teacher, teachers=teachers))

    return None if tell is None else told


def _in_words(report: FitReport) -> str:
    best = report.epochs[report.best_epoch - 1].valid["ndcg@10"]
    return f"valid NDCG@10 {best:.4f} in epoch {report.best_epoch} of {len(report.epochs)}, {report.seconds:.0f} s"
