"""Unreadable answers of a Prefect server, or of a proxy in front of it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import Artifact

from prefect_runpod import PodCost, accounts_in
from prefect_runpod.pods.runs import RunsUnavailableError
from prefect_runpod.prefect_runs import PrefectRuns


class Client:
    """Answers as the server does, except that the runs may not be JSON."""

    def __init__(self, date: str, runs: list[Any] | None) -> None:
        self._date, self._runs = date, runs

    async def request(self, *_: Any) -> httpx.Response:
        return httpx.Response(200, headers={"date": self._date}, request=httpx.Request("GET", "http://prefect/health"))

    async def read_flow_runs(self, **_: Any) -> list[Any]:
        if self._runs is None:
            json.loads("<html>")
        return self._runs or []


def runs_of(date: str, runs: list[Any] | None = None) -> PrefectRuns:
    return PrefectRuns(lambda: Client(date, runs), uuid4(), "gpu")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("date", ["Mon, 16 Nov 2026 13:32:02 GMT", "soon"])
def test_an_unreadable_answer_counts_as_no_answer(date: str) -> None:
    with pytest.raises(RunsUnavailableError):
        asyncio.run(runs_of(date).look(set()))


def test_a_date_without_a_zone_is_utc() -> None:
    assert asyncio.run(runs_of("Mon, 16 Nov 2026 13:32:02 -0000", [])._time()) == datetime(2026, 11, 16, 13, 32, 2, tzinfo=UTC)


def test_other_data_under_the_key_of_a_cost_record_is_ignored() -> None:
    cost = PodCost("a", "1 x L4", 1.0, "2026-11-01T12:00:00+00:00", 3600.0, 1.0, True)
    found = [Artifact(data=data) for data in ("# a note", "[1, null]", "{}", None, json.dumps([cost.to_dict()]))]
    assert accounts_in(found) == [cost]
