"""Create an untrained model by name, or load a trained model from its folder. Nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

from configs.settings import ModelSettings
from models.kinds import KINDS, CandidateKind, kind_in
from models.recommender import Recommender
from models.training import Placement, place

__all__ = ["CandidateKind", "load_recommender", "make_recommender", "placement_of"]


def make_recommender(kind: CandidateKind, settings: ModelSettings) -> Recommender:
    """Return an untrained model with its settings."""
    own = KINDS[kind].settings(settings)
    assert own is not None
    made: Recommender = KINDS[kind].import_model()(own)
    return made


def placement_of(kind: CandidateKind, settings: ModelSettings) -> Placement:
    """Return the device and the number of processes that the model trains with on this machine.

    Raises:
        TrainingError: if this machine does not have what the settings ask for.
    """
    own = KINDS[kind].settings(settings)
    return place(own.device, own.replicas) if KINDS[kind].replicated else Placement()


def load_recommender(folder: Path, device: str = "cpu") -> Recommender:
    """Load the model that `Recommender.save` wrote into `folder`.

    Raises:
        VersionCorruptError: if the folder does not contain a model of a known kind.
    """
    loaded: Recommender = kind_in(folder).import_model().load(folder, device)
    return loaded
