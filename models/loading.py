"""Create an untrained model by name, or load a trained model from its folder. Nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from configs.errors import VersionCorruptError
from configs.settings import ModelSettings
from models.recommender import Recommender
from models.training import Placement, place

__all__ = ["CandidateKind", "load_recommender", "make_recommender", "placement_of"]

CandidateKind = Literal["ss4rec", "ncf", "popularity"]


def make_recommender(kind: CandidateKind, settings: ModelSettings) -> Recommender:
    """Return an untrained model with its settings."""
    if kind == "popularity":
        from models.popularity import Popularity

        return Popularity(settings.popularity)
    if kind == "ncf":
        from models.ncf import NCF

        assert settings.ncf is not None
        return NCF(settings.ncf)
    from models.ss4rec import SS4Rec

    return SS4Rec(settings.ss4rec)


def placement_of(kind: CandidateKind, settings: ModelSettings) -> Placement:
    """Return the device and the number of processes that the model trains with on this machine.

    Only SS4Rec supports more than one process.

    Raises:
        TrainingError: if this machine does not have what the settings ask for.
    """
    return place(settings.ss4rec.device, settings.ss4rec.replicas) if kind == "ss4rec" else Placement()


def load_recommender(folder: Path, device: str = "cpu") -> Recommender:
    """Load the model that `Recommender.save` wrote into `folder`.

    Raises:
        VersionCorruptError: if the folder does not contain a model.
    """
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError) as error:
        raise VersionCorruptError(f"{folder} does not contain a model: its config.json cannot be read ({error}).") from error
    if name == "ss4rec":
        from models.ss4rec import SS4Rec

        return SS4Rec.load(folder, device)
    if name == "ncf":
        from models.ncf import NCF

        return NCF.load(folder, device)
    if name == "popularity":
        from models.popularity import Popularity

        return Popularity.load(folder, device)
    raise VersionCorruptError(
        f"{folder} contains a model of the unknown kind {name!r}; this release supports ss4rec, ncf and popularity."
    )
