"""Wrong requests of the first week. docs/troubleshooting.md has what the API answers to each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.testclient import TestClient

from infra.storage.local import LocalStore
from serving.api.app import create_app
from tests.serving.versions import draw, promote_version, publish, settings_of, wait_until_served

__all__ = ["WRONG_REQUESTS", "WrongRequest", "answer_to_request", "serving_a_version"]

ASK, TELL = "/v1/recommendations", "/v1/events"


@dataclass(frozen=True)
class WrongRequest:
    """What a person did, and the request that shows it."""

    what: str
    path: str
    body: str | None = None  # None: the method is GET
    kind: str = "application/json"
    status: int = 422

    @property
    def line(self) -> str:
        """The request in one line."""
        if self.body is None:
            return f"GET {self.path}"
        return f"POST {self.path} {self.body}"


WRONG_REQUESTS = [
    WrongRequest("A field is misspelt", ASK, '{"user": 42}'),
    WrongRequest("A field has the wrong type", ASK, '{"user_id": [42]}'),
    WrongRequest("No item is asked for", ASK, '{"user_id": 42, "k": 0}'),
    WrongRequest("Too many items are asked for", ASK, '{"user_id": 42, "k": 1000000000}'),
    WrongRequest("The JSON is cut short", ASK, '{"user_id": 42', status=400),
    WrongRequest("The body is a list", ASK, "[42]"),
    WrongRequest("The body is not sent as JSON", ASK, '{"user_id": 42}', "application/x-www-form-urlencoded", 415),
    WrongRequest("The address is misspelt", "/v1/recommendation", status=404),
    WrongRequest("The method is another one", ASK, status=405),
    WrongRequest("A parameter is misspelt", "/v1/items?text=star"),
    WrongRequest("An event lacks its item", TELL, '{"events": [{"user_id": 42}]}'),
    WrongRequest("An event stands alone", TELL, '{"user_id": 42, "item_id": 318}'),
    WrongRequest("The time of an event is a date", TELL, '{"events": [{"user_id": 42, "item_id": 318, "time": "2026-01-01"}]}'),
    WrongRequest(
        "A request names a version that does not exist", ASK, '{"user_id": 42, "version": "20260101T000000Z"}', status=404
    ),
]


@contextmanager
def serving_a_version(folder: Path) -> Iterator[TestClient]:
    """Serve a version, and yield a client."""
    draw(folder / "v1", 1)
    store = LocalStore(folder / "store")
    promote_version(store, publish(store, folder / "v1").version)
    with TestClient(create_app(settings_of(folder)), raise_server_exceptions=False) as client:
        wait_until_served(client)
        yield client


def answer_to_request(client: TestClient, wrong: WrongRequest) -> tuple[int, str]:
    """Send a wrong request, and return the status and the sentence of the answer."""
    if wrong.body is None:
        answer = client.get(wrong.path)
    else:
        answer = client.post(wrong.path, content=wrong.body, headers={"content-type": wrong.kind})
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, str(answer.json()["detail"])
