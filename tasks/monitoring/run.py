"""Monitor one dataset version for the champion: drift of its newest slice, and live quality. Store a page and the figures."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from configs.clock import horizon, wall_clock
from configs.errors import NotFoundError
from configs.settings import DEFAULT_NOUNS, DriftSettings, MonitoringSettings, NounSettings
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from tasks.best_effort import LOG, attempt
from tasks.datasets import DatasetRef, Quarantine, load_dataset_ref, quarantined, read_table
from tasks.monitoring.anchor import find_anchor
from tasks.monitoring.checks import draws_for
from tasks.monitoring.drift import Beside, DriftResult, Reference, detect_drift, newest_slice, reference_of, window_of
from tasks.monitoring.evidently_page import draw_columns
from tasks.monitoring.live_quality import LiveQuality, live_check, live_quality
from tasks.monitoring.page import render_drift
from tasks.monitoring.slices import Known, known_to, last_look, previous_version
from tasks.monitoring.traits import Descriptions, read_features, traits_of

__all__ = ["GivenTables", "Monitored", "champion_reference", "judge_slice", "monitor_dataset"]


@dataclass(frozen=True)
class Monitored:
    """The outcome of a monitoring run, and where it is stored."""

    result: DriftResult
    figures: str  # address of the JSON
    page: str | None  # address of the page; None if it could not be drawn
    evidently: str | None


@dataclass(frozen=True, eq=False)
class GivenTables:
    """Tables of a dataset that is not stored, and the words for it."""

    features: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    nouns: NounSettings


def monitor_dataset(
    store: Store,
    dataset: DatasetRef,
    model_name: str,
    drift: DriftSettings,
    monitoring: MonitoringSettings,
    *,
    span: tuple[int | None, int | None] = (None, None),
    nouns: NounSettings = DEFAULT_NOUNS,
) -> Monitored:
    """Compare the newest slice with the champion's reference, or with the older events if there is no champion.

    Writes `drift/<dataset>/<version>/<stamp>.json`, `.html` and `.evidently.html`.

    Args:
        store: Store of the dataset and of the champion.
        dataset: Dataset version with the newest events.
        model_name: Name of the model whose champion is monitored.
        drift: Settings of the checks.
        monitoring: Settings of live quality and of the reports.
        span: Start and end of the slice in UTC seconds. By default it starts so that it has drift.slice_share of the events, limited to
            those that the champion was not trained on. Its end, against which the age of the newest event is measured, is set by
            monitoring.clock.
        nouns: The words for the data.
    """
    since, now = span
    features = read_features(store, dataset)
    items, users = read_table(store, dataset, "items"), read_table(store, dataset, "users")
    current = ModelRegistry(store).champion_ref(model_name)
    champion = current[0] if current else None
    learnt = known_to(store, _dataset_of(store, champion), dataset, features)
    until = learnt.until if learnt else _trained_until(store, champion)
    older, newest = newest_slice(features, drift, until, since, learnt.rows if learnt else None)
    if now is None and monitoring.clock == "wall":
        now = int(wall_clock())
    look = _last_look(store, dataset, model_name, learnt, since, drift)
    seen = learnt if learnt is not None and look == learnt.earlier else known_to(store, look, dataset, features)
    arrived = features[~seen.rows] if seen else None
    late = 0 if arrived is None else len(arrived.index.difference(newest.index))
    quarantine = quarantined(store, dataset, after=seen.earlier.number if seen else 0, since=since)
    reference = (
        champion_reference(store, champion)
        if champion
        else reference_of(older, items, drift, 0, quarantine, users, dataset.properties.keeps_repeats)
    )
    if champion and not dataset.number:
        quarantine = _arrived(quarantine, reference.quarantine)
    anchor = find_anchor(store, champion, until, drift) if champion and until is not None else None
    events = features[["user_id", "item_id", "timestamp"]]
    if learnt:  # what the champion knows is not new, whatever its time
        events = events[~(learnt.rows & (events["timestamp"] > learnt.until))]
    live, unknown = _live(store, champion, events, until, _draws(reference, Descriptions(items, users), drift), monitoring)
    beside = Beside(
        arrived if late else None,
        anchor.reference if anchor else None,
        [live_check(live, unknown, drift)],
        users=users,
        nouns=nouns,
    )
    measure = detect_drift(
        reference, newest, items, drift, window=window_of(older, newest, now), quarantine=quarantine, beside=beside
    )
    result = replace(
        measure.result,
        model_name=model_name,
        dataset=f"{dataset.name}/{dataset.version}",
        champion=champion.version if champion else None,
        live=replace(live, by_chance=None) if live else None,
        arrived=len(arrived) if arrived is not None else None,
        late=late,
        arrived_since=seen.earlier.version if seen else "",
        anchor=anchor.version if anchor else "",
    )
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    prefix = f"drift/{dataset.name}/{dataset.version}/{stamp}"
    html = None
    if measure.compared is not None and monitoring.evidently:
        html = attempt("Evidently's page", draw_columns, LOG, measure.compared, result, monitoring, f"{result.dataset} {stamp}")
    page = attempt("The drift page", render_drift, LOG, result, f"{stamp}.evidently.html" if html else None, nouns)
    for key, content in ((f"{prefix}.evidently.html", html), (f"{prefix}.html", page)):
        if content is not None:
            store.put_new(key, content)
    store.put_new(f"{prefix}.json", json.dumps(result.to_dict(), indent=2, allow_nan=False).encode())
    return Monitored(
        result=result,
        figures=store.uri(f"{prefix}.json"),
        page=store.uri(f"{prefix}.html") if page is not None else None,
        evidently=store.uri(f"{prefix}.evidently.html") if html is not None else None,
    )


def judge_slice(
    store: Store,
    champion: ModelRef,
    given: GivenTables,
    span: tuple[int, int],
    quarantine: Quarantine | None,
    drift: DriftSettings,
    monitoring: MonitoringSettings,
) -> DriftResult:
    """Judge a slice of given tables against the champion, without storing anything.

    Args:
        given: The tables.
        span: UTC seconds of the slice: its start, and its end.
        quarantine: Row counts of the slice.
    """
    features, items = given.features, given.items
    older, newest = newest_slice(features, drift, since=span[0])
    until = _trained_until(store, champion)
    window, reference = window_of(older, newest, span[1]), champion_reference(store, champion)
    draws = _draws(reference, Descriptions(items, given.users), drift)
    live, unknown = _live(store, champion, features[["user_id", "item_id", "timestamp"]], until, draws, monitoring)
    beside = Beside(checks=[live_check(live, unknown, drift)], users=given.users, nouns=given.nouns)
    return detect_drift(reference, newest, items, drift, window=window, quarantine=quarantine, beside=beside).result


def champion_reference(store: Store, ref: ModelRef) -> Reference:
    """Load the reference that is stored with a version.

    Raises:
        VersionCorruptError: The version has no reference, or not the one it was sealed with.
    """
    with ModelRegistry(store).fetched(ref, "reference_*") as folder:
        return Reference.load(folder)


def _dataset_of(store: Store, champion: ModelRef | None) -> DatasetRef | None:
    """Return the dataset version that the champion was trained on, or None if it is no longer stored."""
    try:
        return load_dataset_ref(store, *champion.dataset.split("/")) if champion else None
    except NotFoundError:
        return None


def _trained_until(store: Store, champion: ModelRef | None) -> int | None:
    """UTC seconds that the events of the champion's dataset reach, which has another name; None if it is no longer stored."""
    dataset = _dataset_of(store, champion)
    if dataset is None or dataset.horizon is not None:
        return dataset.horizon if dataset else None
    return horizon(read_table(store, dataset, "interactions", ["timestamp"])["timestamp"].to_numpy(np.int64))


def _last_look(
    store: Store, dataset: DatasetRef, model_name: str, learnt: Known | None, since: int | None, settings: DriftSettings
) -> DatasetRef | None:
    """Return the version after which events count as arrived."""
    if since is not None:  # a slice was asked for, so the look before it is the version before
        return previous_version(store, dataset)
    return last_look(store, dataset, model_name, learnt.earlier if learnt else None, settings.min_rows)


def _arrived(now: Quarantine | None, before: Quarantine | None) -> Quarantine | None:
    """Return the rows added since the champion's release if this is a longer one, or all rows if it is another release."""
    if now is None or before is None:
        return now
    rows, bad = now.rows - before.rows, now.quarantined - before.quarantined
    return Quarantine(rows, bad) if rows > 0 and 0 <= bad <= rows else now


def _draws(reference: Reference, described: Descriptions, drift: DriftSettings) -> int:
    return draws_for(drift, traits_of(reference.sample, described).most_checks)


def _live(
    store: Store,
    champion: ModelRef | None,
    events: pd.DataFrame,
    trained_until: int | None,
    draws: int,
    settings: MonitoringSettings,
) -> tuple[LiveQuality | None, str]:
    """Return live quality, or the reason why there is none."""
    if champion is None:
        return None, "There is no champion yet."
    if settings.live_requests == 0:
        return None, "monitoring.live_requests is 0."
    if trained_until is None:
        return (
            None,
            f"The dataset {champion.dataset} that the champion was trained on is no longer stored, so it is unknown which "
            "events are newer.",
        )
    found = live_quality(store, champion, events, trained_until, requests=settings.live_requests, resamples=draws)
    return found, ""
