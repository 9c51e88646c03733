"""Judge a slice as it would have been without the planted shift, so that a replay claims no alarm that was there anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from configs.studies import ReplaySettings
from infra.registry import ModelRef
from tasks.datasets import Quarantine
from tasks.ingest import build_features, ingest, validate
from tasks.monitoring import DriftResult, GivenTables, judge_slice
from tasks.replay.feed import Slice
from tasks.replay.log import ReplayLog, ReplayPlan

__all__ = ["drifting_without_shift"]


def drifting_without_shift(
    plan: ReplayPlan, part: Slice, champions: Mapping[str, ModelRef], found: Mapping[str, DriftResult], settings: ReplaySettings
) -> dict[str, list[str]]:
    """Return the checks that drift in the same slice of the unchanged source, by version of the champion.

    It is measured for champions that alarmed in a slice with the planted shift. For others, there is nothing to tell apart. What a
    champion has learnt from shifted events stays as it is, and so does its reference.

    Args:
        champions: Current champion of each policy.
        found: Monitoring result of each policy on the slice as it was delivered.
    """
    shift = settings.scenario
    alarmed = {str(result.champion): policy for policy, result in found.items() if result.verdict == "drifted"}
    if shift is None or part.number < shift.from_slice or not alarmed:
        return {}
    source = ingest(settings.data)
    raw = source.tables.interactions
    times = pd.to_numeric(raw["timestamp"], errors="coerce").to_numpy(np.float64)
    came = times < part.end
    tables = replace(source.tables, interactions=raw[came].reset_index(drop=True))
    report = validate(tables, settings.validation, part.end, source.properties, source.reading)
    features = build_features(report.interactions)
    inside = int((came & (times >= part.start)).sum())
    kept = int((features["timestamp"] >= part.start).sum())
    quarantine = Quarantine(inside, max(inside - kept, 0)) if inside else None
    given = GivenTables(features, report.items, report.users, settings.data.nouns)
    store = ReplayLog.of(plan).store
    return {
        version: judge_slice(
            store,
            champions[policy],
            given,
            (part.start, part.end),
            quarantine,
            settings.drift,
            settings.monitoring,
        ).drifted
        for version, policy in alarmed.items()
    }
