"""The cases, with what each does and what its reference does."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from benchmarks.ratios.measuring import Case, Place

__all__ = ["CASES", "DESCRIBED", "Entry"]

CANNED = "FastAPI's canned answer"
START = "`import asyncio, json`"


@dataclass(frozen=True)
class Entry:
    """A case of the suite. Its module, with the part of the product that it needs, is imported when it is made."""

    what: str
    reference: str
    module: str
    function: str

    def make(self, place: Place) -> Case:
        module = importlib.import_module(f"benchmarks.ratios.{self.module}")
        case: Case = getattr(module, self.function)(place)
        return case


CASES: dict[str, Entry] = {
    "state": Entry("an answer from a kept state", CANNED, "serving_cases", "state"),
    "event": Entry("an event of a known user", CANNED, "serving_cases", "event"),
    "history": Entry("an answer to a given history of 50 events", CANNED, "serving_cases", "history"),
    "cached": Entry("the same question again", CANNED, "serving_cases", "cached"),
    "ranking": Entry("full ranking of 300 requests, 3,000 items", "numpy's argsort", "model_cases", "ranking"),
    "gate": Entry("the gate's test of 2,000 requests", "numpy's means of as many resamples", "model_cases", "gate"),
    "ss4rec": Entry("an epoch of SS4Rec on 4,096 events", "linear layers of torch", "model_cases", "ss4rec"),
    "ncf": Entry("an epoch of NCF on 32,768 events", "linear layers of torch", "model_cases", "ncf"),
    "etl": Entry("etl of 200,000 rows", "plain pandas", "pipeline_cases", "etl"),
    "landing": Entry("10,000 rows land on 190,000", "pandas: concat, drop_duplicates", "pipeline_cases", "landing"),
    "drift": Entry("a measurement of drift, 5,000 events", "numpy's sort of the columns", "pipeline_cases", "drift"),
    "serving-import": Entry("the imports of a serving process", START, "pipeline_cases", "serving_import"),
    "help": Entry("`recsys --help`", START, "pipeline_cases", "command_help"),
}
DESCRIBED = {name: (entry.what, entry.reference) for name, entry in CASES.items()}
