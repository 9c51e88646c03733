"""From a team's file to a judged version and a drift report: every page has the team's words and ids, and no word of MovieLens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from configs.settings import RetrainSettings
from infra.storage.local import LocalStore
from models.schema import DataSchema
from tasks.datasets import external_ids, write_dataset
from tasks.evaluation import assemble_version, evaluate, metrics_rows
from tasks.gate import Decision, judge_staged, publish, refuse_unjudgeable, stage_challenger
from tasks.gate.page import render_html
from tasks.ingest import building, locate
from tasks.monitoring import DriftResult, monitor_dataset
from tasks.monitoring.reference import Reference
from tasks.training import train_candidate
from tests.own_events import SHAPES, START, write

NOUNS = {
    "shop": {"item": "product", "items": "products", "user": "customer", "users": "customers", "genre": "category"},
    "music": {"item": "track", "items": "tracks", "user": "listener", "users": "listeners"},
    "news": {"item": "article", "items": "articles", "user": "reader", "users": "readers", "genre": "section"},
}
SLICES = {"shop": ["brand", "price"], "music": ["country"], "news": ["author"]}
OF_MOVIELENS = re.compile(r"\b(films?|movies?|ratings?|genres?|watch(es)?)\b", re.IGNORECASE)
LONG_NUMBER = re.compile(r"(?<![\d.])\d{16,19}\b")


class Run:
    """One run of the stages without Prefect, with popularity as the challenger, which needs no training."""

    def __init__(self, name: str, folder: Path) -> None:
        shape = SHAPES[name]()
        path = write(shape, folder / "delivered")
        data = {**shape.data, **shape.tables, "local_path": str(path.parent), "dataset": name, "nouns": NOUNS[name]}
        settings = RetrainSettings.model_validate({
            "model_name": name,
            "data": data,
            "store": {"url": f"file:{folder}/store"},
            "work_dir": str(folder / "work"),
            "challenger": "popularity",
            "baselines": [],
            "evaluation": {"slices": SLICES[name]},
            "promotion": {"baselines": [], "resamples": 1100, "sample_requests": 3, "min_slice_requests": 20},
            "report": {"requests": 50},
            "monitoring": {"evidently": False},
            "etl": {"work_dir": str(folder / "etl")},
        })  # fmt: skip
        self.shape, self.store = shape, LocalStore(folder / "store")
        source = locate(settings.data, None, settings.validation)
        with building(source, settings.validation, settings.etl, START + 10**8) as release:
            self.dataset = write_dataset(self.store, source.name, release, release.features, source.hashes())
        assert refuse_unjudgeable(self.store, self.dataset, settings) >= 250
        candidates: list[Any] = [train_candidate(self.store, self.dataset, "popularity", settings)]
        self.measured = evaluate(self.store, self.dataset, candidates, "popularity", settings)
        assembled = assemble_version(Path(candidates[0].folder), self.measured, candidates, self.store, self.dataset, settings)
        self.folder = Path(assembled.path)
        staged = stage_challenger(self.store, name, assembled)
        self.decision: Decision = judge_staged(self.store, staged, "popularity", self.dataset, settings)
        publish(self.store, staged, self.decision, candidates[0], self.measured.evaluation, settings)
        watched = monitor_dataset(self.store, self.dataset, name, settings.drift, settings.monitoring, nouns=settings.data.nouns)
        self.drift: DriftResult = watched.result
        assert watched.page is not None
        self.drift_page = self.store.get("drift/" + watched.page.partition("/drift/")[2]).decode()


@pytest.fixture(scope="module", params=SHAPES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.full
def test_the_gate_judges_and_slices_in_the_words_of_the_team(run: Run) -> None:
    assert run.decision.outcome in ("promoted", "held") and run.decision.requests >= 250
    (rows,) = [metrics_rows(run.measured.evaluation.metrics, run.measured.evaluation.intervals)]
    shown = {row["slice"] for row in rows}
    assert f"tail {NOUNS[run.shape.name]['items']}" in shown and f"light {NOUNS[run.shape.name]['users']}" in shown
    assert all(any(part.startswith(f"{attribute} ") for part in shown) for attribute in SLICES[run.shape.name])
    page = render_html(run.decision).decode().replace(run.decision.challenger, "VERSION")
    assert not LONG_NUMBER.search(re.sub(r"(src|href)=\"data:[^\"]*\"", "", page))


def test_drift_has_the_checks_of_the_data_and_no_others(run: Run) -> None:
    names = {check.name for check in run.drift.checks}
    assert not OF_MOVIELENS.search(" ".join(names)) and not OF_MOVIELENS.search(
        re.sub(r"<style.*?</style>", "", run.drift_page, flags=re.S)
    )
    expected = {
        "shop": {"category", "brand of products", "price of products", "weight of events", "same product as before"},
        "music": {"country of listeners", "birth_year of listeners", "same track as before"},
        "news": {"section", "author of articles", "words of articles"},
    }
    assert expected[run.shape.name] | {f"new {NOUNS[run.shape.name]['users']}"} <= names
    assert ("category" in names, "weight of events" in names) == ((run.shape.name == "shop"),) * 2


def test_a_version_carries_what_its_data_is(run: Run) -> None:
    schema = DataSchema.read(run.folder)
    assert schema.feedback == "implicit" and schema.nouns.items == NOUNS[run.shape.name]["items"]
    sample = Reference.load(run.folder).sample
    assert "rating" not in sample
    catalogue = pd.read_parquet(run.folder / "catalogue.parquet")
    if run.shape.name != "music":
        assert set(catalogue["external_id"]) <= set(run.shape.events[run.shape.item])


def test_the_page_of_the_recommendations_names_items_and_users_by_the_ids_of_the_team(run: Run) -> None:
    page = (run.folder / "recsys_report.html").read_text(encoding="utf-8")
    words = page[page.index("Recommendations on the test requests") :][:3000]
    assert not OF_MOVIELENS.search(words) and f"One {NOUNS[run.shape.name]['item']} per request" in words
    texts = external_ids(run.store, run.dataset, "user_id")
    if texts is None:
        assert any(str(user) in page for user in run.shape.events[run.shape.user].unique())
        return
    numbers = [*texts.index, *pd.read_parquet(run.folder / "catalogue.parquet")["item_id"]]
    assert not [number for number in numbers if str(number) in page]
    assert any(text in page for text in texts)
