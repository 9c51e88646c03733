"""The kinds of models. A new model is one entry in `KINDS`: its classes for training and for serving, and its settings.

The classes are named, not imported: torch and RecBole take seconds to import, and serving needs neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from configs.errors import VersionCorruptError
from configs.settings import ModelSettings

__all__ = ["KINDS", "CandidateKind", "Kind", "kind_in"]

CandidateKind = Literal["ss4rec", "ncf", "popularity"]


@dataclass(frozen=True)
class Kind:
    """A kind of models. A class is named as `module:name`."""

    model: str
    """The `Recommender` that is trained."""
    serving_model: str
    """The `InferenceModel` that serves."""
    settings: Callable[[ModelSettings], Any]
    """The model's section of the settings."""
    replicated: bool = False
    """Whether several processes can train one model."""

    def import_model(self) -> Any:
        """Return the `Recommender` class."""
        return _imported(self.model)

    def import_serving_model(self) -> Any:
        """Return the `InferenceModel` class."""
        return _imported(self.serving_model)


KINDS: dict[str, Kind] = {
    "ss4rec": Kind("models.ss4rec:SS4Rec", "models.ss4rec:RecurrentSS4Rec", lambda settings: settings.ss4rec, replicated=True),
    "ncf": Kind("models.ncf:NCF", "models.ncf:NCFScores", lambda settings: settings.ncf),
    "popularity": Kind("models.popularity:Popularity", "models.inference:PopularityCounts", lambda settings: settings.popularity),
}


def kind_in(folder: Path) -> Kind:
    """Return the kind of the model that a folder contains.

    Raises:
        VersionCorruptError: if the folder does not contain a model of a known kind.
    """
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VersionCorruptError(f"{folder} does not contain a model: its config.json cannot be read ({error}).") from error
    if not isinstance(name, str) or name not in KINDS:
        *others, last = KINDS
        raise VersionCorruptError(
            f"{folder} contains a model of the unknown kind {name!r}; this release supports {', '.join(others)} and {last}."
        )
    return KINDS[name]


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
