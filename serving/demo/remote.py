"""The demo's client of a running `recsys serve`."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from configs.errors import RecsysError
from configs.serving import DemoSettings

__all__ = ["Answer", "ServerError", "ServerLink"]

TIMEOUT_S = 10.0


class ServerError(RecsysError):
    """The server cannot be reached, or refused the request."""


@dataclass(frozen=True)
class Answer:
    """The server's response, and the round-trip time in milliseconds."""

    content: dict[str, Any]
    ms: float


class ServerLink:
    """Calls to the HTTP API. Each raises ServerError with the server's own message, or with how to start a server."""

    def __init__(self, settings: DemoSettings, client: httpx.Client | None = None) -> None:
        if settings.api_url is None:
            raise ServerError(
                "No server is configured. Start one with `recsys serve`, and the demo with `--set api_url=http://127.0.0.1:8000`."
            )
        given = _key(settings)
        key = {"X-API-Key": given} if given else {}
        self._url = settings.api_url
        self._client = client or httpx.Client(base_url=settings.api_url, headers=key, timeout=TIMEOUT_S)

    def recommend(self, user: int | str, k: int, at: int | None = None, version: str | None = None) -> Answer:
        """Request a list for a user, as a preview: whoever looks at the demo does not enter an experiment.

        Args:
            user: Id of the user.
            k: Length of the list.
            at: UTC seconds of the request. Defaults to the server's clock.
            version: A served version. Defaults to the user's own.
        """
        asked = {"user_id": user, "k": k, "explain": True, "time": at, "version": version, "preview": True}
        return self._call("POST", "/v1/recommendations", json={name: value for name, value in asked.items() if value is not None})

    def report(self, user: int | str, item_id: int | str) -> Answer:
        """Report an event of the user that happens now."""
        event = {"user_id": user, "item_id": item_id, "event_id": secrets.token_hex(8)}
        return self._call("POST", "/v1/events", json={"events": [event]})

    def events(self, user: int | str) -> Answer:
        """Return the user's events that the server stores."""
        return self._call("GET", f"/v1/users/{quote(str(user), safe='')}/events")

    def search(self, text: str, count: int) -> Answer:
        """Find items whose title, or else id, contains the text."""
        return self._call("GET", "/v1/items", params={"query": text, "limit": count})

    def onboarding(self, count: int) -> Answer:
        """Return well-known items to start with."""
        return self._call("GET", "/v1/onboarding", params={"count": count})

    def models(self) -> Answer:
        """Return the versions that the server serves or refused."""
        return self._call("GET", "/v1/models")

    def _call(self, method: str, path: str, **given: Any) -> Answer:
        began = time.perf_counter()
        try:
            response = self._client.request(method, path, **given)
        except httpx.HTTPError as error:
            raise ServerError(f"{self._url} does not answer ({error}): start it with `recsys serve`.") from error
        ms = (time.perf_counter() - began) * 1000
        try:
            content = response.json()
        except ValueError as error:
            raise ServerError(f"{self._url} answered {response.status_code} without JSON: is it `recsys serve`?") from error
        if response.is_error:
            raise ServerError(f"{self._url} refused the request: {content.get('detail', response.reason_phrase)}")
        return Answer(content, ms)


def _key(settings: DemoSettings) -> str:
    """Return the API key, or nothing."""
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    if settings.api_key_file is None:
        return ""
    try:
        return settings.api_key_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ServerError(f"The API key cannot be read from {settings.api_key_file}: {error.strerror or error}.") from error
