from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.settings import EvaluationSettings, PopularitySettings
from models.evaluation import split
from models.popularity import Popularity
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from tasks.evaluation.protocol_audit import AuditRow, audit_model, redraw_ties, render_markdown, retrained

RECBOLE = EvaluationSettings(protocol="loo-recbole", k_core=0)


class FileOrder(Recommender):
    """A model that has learnt one thing: which item follows which in the order of the file."""

    name = "file-order"
    sequential = True

    def fit(
        self,
        train: Sequences,
        valid: Requests,
        catalogue: IntArray,
        *,
        seed: int,
        mask_seen: bool,
        checkpoint_dir: Path | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> FitReport:
        self.catalogue = catalogue
        self._follows = torch.zeros(len(catalogue), len(catalogue))
        places = np.searchsorted(catalogue, train.item_ids)
        inside = train.row_of_event[1:] == train.row_of_event[:-1]
        np.add.at(self._follows.numpy(), (places[:-1][inside], places[1:][inside]), 1.0)
        return FitReport()

    def scores(self, requests: Requests) -> torch.Tensor:
        last = np.searchsorted(self.catalogue, requests.item_ids[requests.offsets[1:] - 1])
        return self._follows[last]

    def save(self, folder: Path) -> None:
        raise AssertionError("an audit stores no model")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> FileOrder:
        raise AssertionError("an audit loads no model of this kind")

    def settings(self) -> dict[str, Any]:
        return {}


def tied_events() -> pd.DataFrame:
    """Each user rates a run of eight films in one second, listed in one order for all users, as MovieLens 1M lists them."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        for batch in range(3):
            first = int(rng.integers(0, 33))
            time = 1_000_000_000 - 1_000_000_000 % 64 + 6400 * (100 * user + batch)
            rows += [(user, 100 + first + place, time + batch) for place in range(8)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).drop_duplicates(["user_id", "item_id"])
    return frame.reset_index(drop=True).assign(row=lambda f: np.arange(len(f)))


def fitted(model: Recommender, settings: EvaluationSettings) -> Recommender:
    parts = split(tied_events(), settings)
    model.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=parts.masks_seen(model.sequential))
    return model


def test_a_model_that_memorised_the_file_order_is_exposed() -> None:
    report = audit_model(fitted(FileOrder(), RECBOLE), tied_events(), RECBOLE, draws=5, seed=1)
    assert report.protocol == "loo-recbole;k_core=0" and report.tied_share > 0.9
    ties = next(effect for effect in report.effects if effect.switch.startswith("ties"))
    assert ties.ndcg_own > 0.5, "the model is meant to look good"
    assert ties.share < -0.5 and ties.interval[1] < 0
    assert any(finding.startswith("With ties in the histories shuffled, the version loses") for finding in report.findings)
    own = [row for row in report.rows if row.own]
    assert len(own) == 1 and own[0] is report.rows[0] and own[0].metrics["ndcg@10"] == pytest.approx(ties.ndcg_own)
    assert len(report.rows) == 8 and {row.requests for row in report.rows} == {60}

    shown = render_markdown(report)
    assert shown.count("(own)") == 1 and report.findings[0] in shown


def test_retraining_under_each_order_shows_what_the_file_order_is_worth() -> None:
    steps: list[str] = []
    rows = retrained(FileOrder, tied_events(), RECBOLE, draws=2, seed=1, report=steps.append)
    assert len(steps) == 3 and len(rows) == 24

    def ndcg(order: str) -> float:
        def asked(row: AuditRow) -> bool:
            return (row.seen, row.request_time, row.ties) == ("unmasked", "target", "as they are") and order in row.order

        return next(row.metrics["ndcg@10"] for row in rows if asked(row))

    assert ndcg("float32 time") > 2 * ndcg("exact time, ties drawn")
    assert ndcg("exact time, ties in source order") > 2 * ndcg("exact time, ties drawn")


def test_a_model_that_ignores_order_and_time_gains_nothing_from_them() -> None:
    settings = EvaluationSettings(k_core=0)
    report = audit_model(fitted(Popularity(PopularitySettings()), settings), tied_events(), settings, draws=3, seed=1)
    masking, time, ties = report.effects
    assert masking.switch == "seen items left in" and masking.difference < 0
    assert time.switch == "asked at the last event's time" and time.difference == 0 and time.interval == (0, 0)
    assert ties.difference == 0 and all("seen items" in finding for finding in report.findings)


def test_a_protocol_that_asks_at_the_last_event_is_audited_against_the_targets_time() -> None:
    settings = EvaluationSettings(k_core=0, query_time="last")
    report = audit_model(fitted(Popularity(PopularitySettings()), settings), tied_events(), settings, draws=1, seed=1)
    assert report.protocol == "loo-exact;k_core=0;request_time=last"
    assert [effect.switch for effect in report.effects][1] == "asked at the target's time"
    assert report.rows[0].own and report.rows[0].request_time == "last"


@given(st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=1, max_size=6), st.integers(0, 99))
def test_shuffling_ties_moves_events_within_their_second_only(gaps: list[list[int]], seed: int) -> None:
    lengths = [len(row) for row in gaps]
    times = np.concatenate([np.cumsum(np.array(row, dtype=np.int64)) for row in gaps]).astype(np.int64)
    requests = Requests(
        user_ids=np.arange(len(gaps)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_ids=np.arange(len(times)),
        timestamps=times,
        request_times=np.full(len(gaps), 99),
        targets=np.zeros(len(gaps), np.int64),
        ratings=np.arange(len(times), dtype=np.float32),
    )
    drawn = redraw_ties(requests, np.random.default_rng(seed))
    assert np.array_equal(drawn.timestamps, times) and np.array_equal(drawn.offsets, requests.offsets)
    assert drawn.ratings is not None and np.array_equal(drawn.ratings, drawn.item_ids), "a rating left the event that it is of"
    key = requests.row_of_event * 1000 + times
    for value in np.unique(key):
        assert set(drawn.item_ids[key == value]) == set(requests.item_ids[key == value])
