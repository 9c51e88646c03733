"""Models by name: a new one from its settings, a trained one from its folder. Nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from configs.errors import VersionCorruptError
from configs.settings import ModelSettings
from models.distributed import Placement, place
from models.recommender import Recommender

__all__ = ["CandidateKind", "load_recommender", "make_recommender", "placement_of"]

CandidateKind = Literal["ss4rec", "ncf", "popularity"]


def make_recommender(kind: CandidateKind, settings: ModelSettings) -> Recommender:
    """An untrained model with its settings."""
    if kind == "popularity":
        from models.popularity import Popularity

        return Popularity(settings.popularity)
    if kind == "ncf":
        from models.ncf import NCF

        assert settings.ncf is not None
        return NCF(settings.ncf)
    from models.ss4rec.recommender import SS4Rec

    return SS4Rec(settings.ss4rec)


def placement_of(kind: CandidateKind, settings: ModelSettings) -> Placement:
    """Where the model trains on this machine, and in how many processes: only SS4Rec knows more than one.

    Raises TrainingError where this machine has not what the settings ask for.
    """
    return place(settings.ss4rec.device, settings.ss4rec.replicas) if kind == "ss4rec" else Placement()


def load_recommender(folder: Path, device: str = "cpu") -> Recommender:
    """The model that `Recommender.save` wrote into `folder`. Raises VersionCorruptError where there is none."""
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError) as error:
        raise VersionCorruptError(f"{folder} holds no model: its config.json cannot be read ({error}).") from error
    if name == "ss4rec":
        from models.ss4rec.recommender import SS4Rec

        return SS4Rec.load(folder, device)
    if name == "ncf":
        from models.ncf import NCF

        return NCF.load(folder, device)
    if name == "popularity":
        from models.popularity import Popularity

        return Popularity.load(folder, device)
    raise VersionCorruptError(
        f"{folder} holds a model of the unknown kind {name!r}; this version reads ss4rec, ncf and popularity."
    )
