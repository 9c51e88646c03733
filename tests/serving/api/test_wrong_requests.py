"""The wrong requests of the first week: one sentence with the cause and the remedy, as docs/troubleshooting.md has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.flows.cli.troubleshooting import PAGE, row_of_request
from tests.serving.api.wrong_requests import WRONG_REQUESTS, WrongRequest, answer_to_request, serving_a_version


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving_a_version(tmp_path_factory.mktemp("wrong")) as client:
        yield client


@pytest.mark.parametrize("wrong", WRONG_REQUESTS, ids=lambda wrong: wrong.what.replace(" ", "-"))
def test_a_wrong_request_is_answered_with_the_sentence_of_the_page(client: TestClient, wrong: WrongRequest) -> None:
    status, detail = answer_to_request(client, wrong)
    assert status == wrong.status
    assert row_of_request(wrong, detail) in PAGE.read_text(encoding="utf-8"), (
        "write the page again: python -m tests.flows.cli.troubleshooting"
    )
