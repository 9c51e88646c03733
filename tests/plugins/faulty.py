"""A model of a plugin that misbehaves in the way that its setting names."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from configs.base import Settings
from configs.kinds import ModelSpec
from models.recommender import FitReport, Requests
from tests.plugins.lately import Lately, LatelySettings


class FaultySettings(Settings):
    """Popular lately, with a fault."""

    fault: str = ""
    """The fault, by the name of a function below."""


def hang(*_: Any) -> None:
    threading.Event().wait()


def hang_in_a_child(*_: Any) -> None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    child.join()


def leave(*_: Any) -> None:
    sys.exit("this model needs a GPU")


def crash(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fail(*_: Any) -> None:
    raise ZeroDivisionError("one of my numbers is zero")


FITS: dict[str, Callable[..., Any]] = {
    "fit hangs": hang,
    "fit crashes": crash,
    "fit raises": fail,
    "fit exits": leave,
}
SCORES: dict[str, Callable[..., Any]] = {
    "scores hang": hang,
    "scores hang in a child": hang_in_a_child,
    "scores exit": leave,
    "scores crash": crash,
    "scores raise": fail,
    "scores are NaN": lambda scores: torch.full_like(scores, torch.nan),
    "scores have another shape": lambda scores: scores[:, :-1],
    "scores change between processes": lambda scores: scores * (1 + os.getpid() % 1000),
}


class Faulty(Lately):
    name = "faulty"

    def __init__(self, settings: FaultySettings) -> None:
        super().__init__(LatelySettings())
        self._fault = settings.fault

    def settings(self) -> dict[str, Any]:
        return {"fault": self._fault}

    def fit(self, *arguments: Any, **options: Any) -> FitReport:
        report = super().fit(*arguments, **options)
        found: FitReport = FITS.get(self._fault, lambda report: report)(report)
        return found

    def scores(self, requests: Requests) -> torch.Tensor:
        scores = super().scores(requests)
        if not self._fitting:
            found: torch.Tensor = SCORES.get(self._fault, lambda scores: scores)(scores)
            return found
        return scores

    def predict_ratings(self, requests: Requests) -> torch.Tensor:
        return torch.from_numpy(1 + requests.targets % 5).float()

    _fitting = True  # until it was loaded

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Faulty:
        model = cls(FaultySettings(**json.loads((folder / "config.json").read_text())["settings"]))
        model.catalogue, model._counts = cls.load_files(folder, device)
        model._fitting = False
        if model._fault == "load raises":
            fail()
        if model._fault == "load exits":
            leave()
        return model


SPEC = ModelSpec(
    "faulty", FaultySettings, "tests.plugins.faulty:Faulty", serving="models.popularity:PopularityCounts", seeded=False
)
