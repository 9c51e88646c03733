"""Faults of plugins, each as one sentence that names the plugin and the remedy."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import NoReturn

from configs.errors import RecsysError, TrainingError
from configs.kinds import place_of
from models.recommender import FitReport

__all__ = ["blamed", "check_fitted", "check_saved", "refuse"]


@contextmanager
def blamed(kind: str, doing: str, but: type[Exception] = RecsysError) -> Iterator[None]:
    """Turn an exception of a plugin into one sentence that names it. Kinds that are built in keep theirs.

    Args:
        kind: Kind of the model.
        doing: What it was doing, such as `training`.
        but: Exceptions that are not a fault, besides the product's own.

    Raises:
        TrainingError: the code of a plugin raised an exception, or called sys.exit.
    """
    try:
        yield
    except (RecsysError, but):
        raise
    except (Exception, SystemExit) as error:
        if place_of(kind) is None:
            raise
        traceback.print_exc()
        raise TrainingError(_sentence(kind, doing, error)) from error


def check_fitted(kind: str, report: FitReport) -> None:
    """Check what a plugin's `fit` returned.

    Raises:
        TrainingError: it is not a report, or its numbers are not finite.
    """
    if not isinstance(report, FitReport):
        refuse(kind, f"its fit returned {type(report).__name__}, not a FitReport")
    for epoch in report.epochs:
        if not all(isinstance(number, Real) and math.isfinite(number) for number in (epoch.loss, *epoch.valid.values())):
            refuse(
                kind, f"epoch {epoch.epoch} has the loss {epoch.loss} and valid metrics {epoch.valid}, which are not all finite"
            )


def check_saved(kind: str, folder: Path) -> None:
    """Check that a plugin saved a model of its kind, in files that can be loaded without unpickling.

    Raises:
        TrainingError: a file is missing, or names another kind.
    """
    for name in ("model.safetensors", "config.json", "vocabulary.parquet"):
        if not (folder / name).is_file():
            refuse(kind, f"its save wrote no {name}")
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.get("model") != kind:
        refuse(kind, f'its save wrote a config.json whose "model" is not {kind}')


def _sentence(kind: str, doing: str, error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
    return (
        f"The model {kind} of the plugin {place_of(kind)} failed in {doing} ({said}, in {Path(last.filename).name}, line {last.lineno}). "
        f"Mend the plugin, or remove {kind} from challenger and baselines."
    )


def refuse(kind: str, fault: str) -> NoReturn:
    """Raise the TrainingError that names the plugin, its fault and the remedy."""
    raise TrainingError(
        f"The model {kind} of the plugin {place_of(kind)} cannot be used: {fault}. Mend the plugin, or remove {kind} from challenger "
        "and baselines."
    )
