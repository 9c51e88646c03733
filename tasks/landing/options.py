"""The options of a run over a landing zone."""

from __future__ import annotations

from dataclasses import dataclass

from configs.settings import DataSettings, EtlSettings, LandingSettings, ValidationSettings

__all__ = ["LandingOptions"]

MOVIELENS = DataSettings()


@dataclass(frozen=True)
class LandingOptions:
    """The settings and the time of a run.

    Attributes:
        now: UTC seconds.
        retry_quarantined: Also read files again that were quarantined as a whole or that have quarantined rows.
        data: How the files are written. Their place is not taken from it.
    """

    validation: ValidationSettings
    landing: LandingSettings
    engine: EtlSettings
    now: float
    retry_quarantined: bool = False
    data: DataSettings = MOVIELENS
