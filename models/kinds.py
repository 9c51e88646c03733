"""From a kind of model to its classes, and from a model's folder to its kind.

The classes are imported when they are needed: torch and RecBole take seconds to import, and serving needs neither. What a kind
is, and how it is found, belongs to `configs.kinds`.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from configs.errors import SettingsError, TrainingError, VersionCorruptError
from configs.kinds import ModelSpec, spec_of
from configs.loading import refuse_newer
from configs.renames import former_keys

__all__ = ["kind_in", "recommender_class", "serving_class"]

GENERAL = "models.general:GeneralModel"
"""Serves a kind that has no serving form of its own."""


def kind_in(folder: Path) -> ModelSpec:
    """Return the kind of the model that a folder contains.

    Raises:
        VersionCorruptError: if the folder does not contain a model of a known kind.
        NewerReleaseError: if a newer release of this project wrote the model.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name = config["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VersionCorruptError(f"{folder} does not contain a model: its config.json cannot be read ({error}).") from error
    if not isinstance(name, str):
        raise VersionCorruptError(f"{folder} does not contain a model: its config.json has the kind {name!r}.")
    try:
        spec = spec_of(name)
    except SettingsError as error:
        raise VersionCorruptError(f"{folder} contains a model of the unknown kind {name!r}. {error}") from error
    if spec.recommender.startswith("models."):  # a plugin may read settings of its own past
        known = {*spec.settings.model_fields, *former_keys(spec.settings)}
        refuse_newer(config.get("settings", {}), f"The model in {folder}", known)
    return spec


def recommender_class(spec: ModelSpec) -> Any:
    """Return the `Recommender` class of a kind.

    Raises:
        TrainingError: if it cannot be imported.
    """
    return _imported(spec, spec.recommender)


def serving_class(spec: ModelSpec) -> Any:
    """Return the `InferenceModel` class of a kind: its own, or the general one.

    Raises:
        TrainingError: if it cannot be imported.
    """
    return _imported(spec, spec.serving or GENERAL)


def _imported(spec: ModelSpec, path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise TrainingError(
            f"The class {path} of the model {spec.kind} cannot be imported ({said}): mend it, or what its module needs."
        ) from error
