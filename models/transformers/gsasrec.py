"""gSASRec (Petrov and Macdonald 2023, arXiv 2308.07192): SASRec with many negatives and a calibrated loss.

Trained with few negatives, a model is overconfident. gBCE raises the positive's probability to a power that undoes this. The network
is SASRec's.
"""

from __future__ import annotations

from models.transformers.recommender import SequenceRecommender
from models.transformers.sasrec import SASRecNetwork
from models.transformers.settings import GSASRecSettings

__all__ = ["GSASRec"]


class GSASRec(SequenceRecommender):
    """gSASRec as a `Recommender`."""

    name = "gsasrec"
    settings_type = GSASRecSettings
    network_type = SASRecNetwork
