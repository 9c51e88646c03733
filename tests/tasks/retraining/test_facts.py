"""What monitoring knows when it decides: the last training, its cost, and the record of the answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from configs.settings import DueSettings
from infra.pages import is_page
from infra.registry import Lineage, ModelRegistry
from infra.storage.local import LocalStore
from tasks.retraining import Facts, Look, decide, keep_answer, position_of
from tasks.retraining.answer import Position
from tasks.retraining.record import answers_before
from tests.tasks.stored import NAME, NOW, sealed, stage_popularity

TODAY = int(NOW.timestamp())
LOOK = Look("wall", TODAY)


def test_the_last_training_counts_whether_or_not_it_was_promoted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    assert position_of(store, NAME, LOOK) == Position(None, None)
    first = sealed(store, tmp_path / "a")
    ModelRegistry(store).promote(NAME, first.version, expected=0, reason="first", now=NOW)
    sealed(store, tmp_path / "b", hour=5, outcome="held")
    found = position_of(store, NAME, LOOK)
    assert found.last is not None and found.last.at == TODAY + 5 * 3600 and found.champion_at == TODAY
    assert found.last.rows is None and found.last.content == "abc", "its dataset is no longer stored"


def test_the_month_counts_what_its_own_trainings_cost_and_the_newest_price_is_the_next_ones(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    for hour, cost in enumerate([7.0, 2.0, None, 1.5]):
        days = timedelta(days=0 if hour else -1)  # the first one is of the month before
        staged = stage_popularity(store, tmp_path / str(hour), hour=hour + int(days.total_seconds() // 3600))
        given = Lineage("popularity", "small/abc", "loo-exact", 0, {}, {"ndcg@10": 0.1}, 1.0, cost, None, "3.11", {}, {})
        registry.seal(staged, {"outcome": "held", "reasons": []}, given, NOW + days + timedelta(hours=hour))
    found = position_of(store, NAME, LOOK)
    assert (found.spent_usd, found.training_usd) == (3.5, 1.5)


def test_a_damaged_version_does_not_keep_monitoring_from_its_answer(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    sealed(store, tmp_path / "a")
    bad = sealed(store, tmp_path / "b", hour=1)
    (tmp_path / "store" / bad.prefix / "manifest.json").write_text("{}")
    found = position_of(store, NAME, LOOK)
    assert found.last is not None and found.last.at == TODAY


def test_each_answer_is_kept_and_its_page_shows_the_ones_before(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    settings, where = DueSettings(), Position(None, None)
    first = decide(settings, where, Facts(TODAY, 10, "b"), model_name=NAME, dataset="shop/<b>", champion=None)
    keep_answer(store, first)
    second = replace(first, why="No retraining starts: <script>.", at=TODAY + 86_400)
    kept = keep_answer(store, second)
    assert answers_before(store, NAME) == [second, first]
    assert kept.page is not None
    key = kept.page.removeprefix(store.uri("")).lstrip("/")
    page = store.get(key).decode()
    assert "2026-01-01" in page and "2026-01-02" in page and "<script>" not in page and "UTC UTC" not in page
    assert "<code>recsys retrain</code>" in page and "`" not in page
    assert is_page(key) and is_page(kept.figures.removeprefix(store.uri("")).lstrip("/"))
