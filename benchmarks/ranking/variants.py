"""The models that are compared: each variant is a kind of recommender with settings that a search found, and what differs from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.errors import SettingsError
from configs.loading import load_settings
from configs.settings import RetrainSettings

__all__ = ["OURS", "SEARCHES", "UNFINISHED", "VARIANTS", "kind_of", "settings_of", "studies_of"]

OURS = "SS4Rec"
NO_INTERVALS = {"interval_embedding": False}
FURTHER: dict[str, Any] = {"schedule": "constant", "weight_averaging": 0.998, "max_epochs": 36, "patience": 10}
"""A constant learning rate and a longer average of the weights. They helped SS4Rec most after the equal search, so its peers get them,
too."""
WIDER: dict[str, Any] = FURTHER | {
    "max_epochs": 80,
    "width": 192,
    "dropout": 0.25,
    "embedding_dropout": 0.35,
    "learning_rate": 0.002,
}
"""What the further search of SS4Rec added to them."""
DISTILLED: dict[str, Any] = {"teachers": 4, "patience": 8}
"""Four networks distilled into one."""
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    OURS: ("ss4rec", "ss4rec", {}),
    "SS4Rec, further": ("ss4rec", "ss4rec", WIDER | {"max_length": 400}),
    "SS4Rec, further, 200 events": ("ss4rec", "ss4rec", WIDER),
    "SS4Rec, further, 800 events": ("ss4rec", "ss4rec", WIDER | {"max_length": 800}),
    "SS4Rec, distilled": ("ss4rec", "ss4rec", WIDER | DISTILLED),
    "SASRec": ("sasrec", "sasrec", {}),
    "gSASRec": ("gsasrec", "gsasrec", {}),
    "eSASRec": ("esasrec", "esasrec", {}),
    "HSTU": ("hstu", "hstu", {}),
    "LRURec": ("lrurec", "lrurec", {}),
    "SASRec, further": ("sasrec", "sasrec", FURTHER),
    "gSASRec, further": ("gsasrec", "gsasrec", FURTHER | {"max_epochs": 120}),
    "eSASRec, further": ("esasrec", "esasrec", FURTHER),
    "HSTU, further": ("hstu", "hstu", FURTHER),
    "LRURec, further": ("lrurec", "lrurec", FURTHER),
    "HSTU, distilled": ("hstu", "hstu", FURTHER | DISTILLED | {"max_epochs": 48}),
    "SS4Rec, no time": ("ss4rec", "ss4rec", {"interval": "none"}),
    "SASRec, no time": ("sasrec", "sasrec", NO_INTERVALS),
    "gSASRec, no time": ("gsasrec", "gsasrec", NO_INTERVALS),
    "eSASRec, no time": ("esasrec", "esasrec", NO_INTERVALS),
    "HSTU, no time": ("hstu", "hstu", NO_INTERVALS | {"time_bias": False}),
    "LRURec, no time": ("lrurec", "lrurec", NO_INTERVALS),
}
"""Each variant: its kind, the study of `benchmarks.ranking.search` that found its settings, and what differs from them."""
SEARCHES = (Path("benchmarks/results/search.json"), Path("benchmarks/results/search_further.json"))
EPOCHS = 30
"""The length of a training whose settings the equal search found. Its learning rate falls to 0 meanwhile, as in the search."""

UNFINISHED = ("gSASRec",)
"""Variants that still improve when their epochs end: their rows are lower bounds."""


def kind_of(variant: str) -> str:
    """Return the kind of a variant."""
    return VARIANTS[variant][0] if variant in VARIANTS else variant


def settings_of(variant: str, studies: dict[str, Any], more: Sequence[str] = ()) -> Any:
    """Return the settings of a variant: what its study found, then what the variant changes, then `more` (key=value).

    Raises:
        SettingsError: if a study is missing, or a setting is wrong.
    """
    kind, name, changes = VARIANTS.get(variant, (variant, "", {}))
    found: dict[str, Any] = {}
    if name:
        if name not in studies:
            raise SettingsError(
                f"No result of a search has the study {name}, which the variant {variant} needs: pass it with --search."
            )
        study = studies[name]
        best: dict[str, Any] = next(trial["params"] for trial in study["trials"] if trial["number"] == study["best"])
        found = study["fixed"] | ({"max_epochs": EPOCHS, "patience": EPOCHS} if name == kind else {}) | best
    given = [f"models.{kind}.{key}={value}" for key, value in (found | changes).items()]
    given += [f"models.{kind}.{each}" for each in more]
    return load_settings(RetrainSettings, None, given).models.of(kind)


def studies_of(results: Sequence[Path]) -> dict[str, Any]:
    """Return the studies in the results of searches, by name."""
    return {
        name: study
        for path in results
        if path.exists()
        for name, study in json.loads(path.read_text(encoding="utf-8"))["studies"].items()
    }
