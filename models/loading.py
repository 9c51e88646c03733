"""Create an untrained model by name, or load a trained model from its folder. Nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

from configs.kinds import spec_of
from configs.settings import ModelSettings
from models.kinds import kind_in, recommender_class
from models.recommender import Recommender
from models.training import Placement, place

__all__ = ["load_recommender", "make_recommender", "placement_of"]


def make_recommender(kind: str, settings: ModelSettings) -> Recommender:
    """Return an untrained model with its settings."""
    made: Recommender = recommender_class(spec_of(kind))(settings.of(kind))
    return made


def placement_of(kind: str, settings: ModelSettings) -> Placement:
    """Return the device and the number of processes that the model trains with on this machine.

    Raises:
        TrainingError: if this machine does not have what the settings ask for.
    """
    if not spec_of(kind).replicated:
        return Placement()
    own = settings.of(kind)
    return place(own.device, own.replicas, kind)  # type: ignore[attr-defined]


def load_recommender(folder: Path, device: str = "cpu") -> Recommender:
    """Load the model that `Recommender.save` wrote into `folder`.

    Raises:
        VersionCorruptError: if the folder does not contain a model of a known kind.
    """
    loaded: Recommender = recommender_class(kind_in(folder)).load(folder, device)
    return loaded
