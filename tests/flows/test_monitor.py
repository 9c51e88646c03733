from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from configs.errors import DataRefusedError, SourceError
from configs.settings import RetrainSettings, StoreSettings
from flows.etl import etl
from flows.monitor import monitor
from flows.retrain import retrain
from infra.digests import sha256_of
from infra.prefect_server import DRIFT_WITHOUT_DATA, RETRAINING_DUE, model_resource
from infra.prefect_server.alerts import retrain_when_due
from infra.registry import ModelRegistry
from infra.storage import open_store
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, last_delivery, list_datasets, read_table
from tasks.monitoring import DriftResult
from tasks.monitoring.checks import Check
from tasks.stages import announce_drift
from tasks.stages import data as stages
from tests import synthetic
from tests.flows.conftest import FirstRun
from tests.tasks.landed import csv
from tests.tasks.stored import NOW, sealed

MOVED: dict[str, Any] = {"effect": 0.9, "bound": 0.15, "p_value": 0.0005, "adjusted_p": 0.006, "verdict": "drifted"}


def result(verdict: Any) -> DriftResult:
    checks = [
        Check("rating", "distance", effect=0.9, bound=0.15, p_value=0.0005, adjusted_p=0.006, verdict="drifted"),
        Check("volume", "times", verdict="not judged", detail="no window"),
    ]
    return DriftResult(
        verdict=verdict,
        reasons=["rating moved."],
        rows=5000,
        users=40,
        first=0,
        last=1,
        reference_rows=1,
        reference_users=1,
        unseen_user_share=0.5,
        alpha=0.01,
        checks=checks,
        model_name="movie-ranker",
        dataset="ml-100k/abc",
    )


@pytest.mark.parametrize("verdict", ["drifted", "stable", "too small to judge"])
def test_only_drift_is_announced_with_its_figures(verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append({"event": event, **details}))

    @flow
    def run() -> None:
        announce_drift(result(verdict))

    run()
    if verdict != "drifted":
        assert told == []
        return
    assert len(told) == 1 and told[0]["event"] == "recsys.drift.detected"
    assert told[0]["resource"]["prefect.resource.id"] == "recsys.model.movie-ranker"
    payload = told[0]["payload"]
    assert payload["drifted"] == ["rating"] and payload["checks"] == {"rating": {"effect": 0.9, "bound": 0.15, "p_value": 0.006}}
    assert payload["dataset"] == "ml-100k/abc" and payload["champion"] is None and payload["live_ndcg_at_10"] is None


def test_drift_in_data_that_the_champion_was_trained_on_informs_people_and_starts_no_retraining(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append(event))
    settings = StoreSettings(url=f"file:{tmp_path}")
    registry = ModelRegistry(open_store(settings))
    ref = sealed(LocalStore(tmp_path), tmp_path / "made")
    registry.promote(ref.name, ref.version, expected=0, reason="first", now=NOW)

    @flow
    def run(dataset: str) -> None:
        announce_drift(replace(result("drifted"), model_name=ref.name, dataset=dataset), settings)

    run(ref.dataset)
    run(f"{ref.dataset}0")
    assert told == ["recsys.drift.without_data", "recsys.drift.detected"]


@pytest.mark.parametrize(("retrains", "event"), [(True, "recsys.drift.detected"), (False, "recsys.drift.without_data")])
def test_a_refused_delivery_or_a_silent_feed_alerts_people_and_starts_no_retraining(
    retrains: bool, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append(event))
    checks = [Check("quarantine", "change", retrains=False, **MOVED), Check("rating", "distance", retrains=retrains, **MOVED)]

    @flow
    def run() -> None:
        announce_drift(replace(result("drifted"), checks=checks))

    run()
    assert told == [event]


@flow(name="retrains-in-a-test")
def retrains() -> None:
    """A flow of the server, for the deployment that drift starts."""


def starts_a_retraining(event: str, model_name: str) -> bool:
    """Whether the automation of a server, as Prefect's own server decides it, starts a retraining at this event."""
    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(retrains), "on-drift")
    trigger = retrain_when_due(model_name, "retrains-in-a-test/on-drift").trigger
    happened = {"id": uuid4(), "occurred": datetime.now(UTC), "event": event, "resource": model_resource(model_name)}
    return EventTrigger.model_validate(trigger.model_dump()).covers(ReceivedEvent.model_validate(happened))


@dataclass
class Delivered:
    """A store with a champion, where deliveries arrive as files of a landing zone or as releases."""

    settings: RetrainSettings
    folder: Path
    landing: bool
    told: list[str]

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    def deliver(self, number: int, text: str) -> RetrainSettings:
        """Settings of a run over the next delivery."""
        folder = self.folder / ("zone" if self.landing else str(number))
        folder.mkdir(exist_ok=True)
        (folder / (f"{number}.csv" if self.landing else "ratings.csv")).write_text(text)
        place = {"landing": str(folder)} if self.landing else {"local_path": folder}
        return self.settings.model_copy(update={"data": self.settings.data.model_copy(update=place)})

    def stored(self) -> dict[str, str]:
        """The digests of datasets, models and promotions, without the accounts of deliveries."""
        return {
            key: sha256_of(self.store.get(key))
            for key in self.store.list()
            if not key.startswith(("drift/", "due/", "landing/", "leases/")) and "/deliveries/" not in key
        }

    def is_as(self, before: dict[str, str], dataset: DatasetRef) -> bool:
        """Whether nothing changed. The first file of a landing zone gives a version of its own, of the same events."""
        now = self.stored()
        added = [key for key in now if key not in before]
        events = [read_table(self.store, each, "interactions") for each in (dataset, list_datasets(self.store)[-1])]
        return before.items() <= now.items() and all(key.startswith("datasets/") for key in added) and events[0].equals(events[1])

    def monitored(self) -> DriftResult:
        self.told.clear()
        settings = self.settings
        return monitor(None, settings.model_name, settings.data, settings.drift, settings.store, settings.monitoring)


@pytest.fixture
def delivered(request: pytest.FixtureRequest, first_run: FirstRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Delivered:
    told: list[str] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append(event))
    settings = first_run.copied(tmp_path)
    drift = settings.drift.model_copy(update={"min_rows": 50, "resamples": 400})
    monitoring = settings.monitoring.model_copy(update={"evidently": False, "live_requests": 0})
    landing = settings.landing.model_copy(update={"settle_s": 0.0, "give_up_s": 0.0, "compact_share": 1.0})
    changes = {"drift": drift, "monitoring": monitoring, "landing": landing}
    return Delivered(settings.model_copy(update=changes), tmp_path, request.param == "landing zone", told)


def run_etl(settings: RetrainSettings) -> DatasetRef:
    return etl(settings.data, settings.validation, settings.store, settings.etl, settings.landing)


@pytest.mark.full
@pytest.mark.parametrize(("delivered", "more"), [("landing zone", 0), ("release", 0), ("release", 40)], indirect=["delivered"])
def test_a_delivery_that_is_bad_as_a_whole_changes_nothing_is_seen_and_starts_no_retraining(
    delivered: Delivered, more: int
) -> None:
    events = synthetic.interactions(80 + more, 40, 25)
    before, (release,) = delivered.stored(), list_datasets(delivered.store)
    assert delivered.monitored().verdict != "drifted" and delivered.told == []

    bad = delivered.deliver(1, csv(events.assign(rating=99)))
    for attempt in ("etl", "retrain"):
        if attempt == "etl" or not delivered.landing:  # a later run goes on without a refused file
            with pytest.raises(DataRefusedError, match="rating is outside"):
                run_etl(bad) if attempt == "etl" else retrain(bad)
    dataset = list_datasets(delivered.store)[-1]
    assert delivered.is_as(before, release)
    assert len([key for key in delivered.store.list() if "/deliveries/" in key]) == (0 if delivered.landing else 1), (
        "the same one"
    )
    delivery = last_delivery(delivered.store, dataset)
    assert delivery is not None
    assert (delivery.rows, delivery.added, delivery.quarantined) == (len(events), 0, len(events))

    found = delivered.monitored()
    assert found.verdict == "drifted" and found.drifted == ["quarantine"] and delivered.told == [DRIFT_WITHOUT_DATA]
    assert not starts_a_retraining(DRIFT_WITHOUT_DATA, delivered.settings.model_name)
    assert starts_a_retraining(RETRAINING_DUE, delivered.settings.model_name)
    assert delivered.is_as(before, release)

    later = events.assign(user_id=events["user_id"] + 1000, timestamp=events["timestamp"] + 40_000_000)
    good = later if delivered.landing else pd.concat([events, later])
    made = run_etl(delivered.deliver(2, csv(good)))
    assert made.version != dataset.version and before.items() <= delivered.stored().items()
    delivery = last_delivery(delivered.store, made)
    assert delivery is not None and delivery.added > 0 and delivery.quarantined == 0
    assert "quarantine" not in delivered.monitored().drifted or delivered.landing, "a landing zone counts all since the champion"


@pytest.mark.parametrize("delivered", ["landing zone", "release"], indirect=True)
def test_a_delivery_that_is_not_what_it_says_changes_nothing_and_the_next_one_goes_through(delivered: Delivered) -> None:
    before, (release,) = delivered.stored(), list_datasets(delivered.store)
    page = "<!DOCTYPE html><html><body>Your session has expired.</body></html>\n"
    with pytest.raises((SourceError, DataRefusedError)) as caught:
        run_etl(delivered.deliver(1, page))
    assert ("1.csv" if delivered.landing else "ratings.csv") in str(caught.value)
    assert delivered.is_as(before, release) and "quarantine" not in delivered.monitored().drifted
    events = synthetic.interactions(80, 40, 25, seed=3)
    made = run_etl(delivered.deliver(2, csv(events.assign(timestamp=events["timestamp"] + 40_000_000))))
    assert made.rows > 0 and before.items() <= delivered.stored().items()
