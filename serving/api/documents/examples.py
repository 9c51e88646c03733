"""Examples of requests and answers. Their ids, titles and genres are those of the champion, so a reader can send each as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from models.schema import DataSchema
from serving.catalogue import ItemDescription

__all__ = ["Examples", "Known", "Operation"]

VERSION = "20261124T092748Z-3d7722adc38c890dc97d1200d90f7be0"
TIME = 1795512468
FILM = ItemDescription(318, "Shawshank Redemption, The", 1994, ["Crime", "Drama"])
OTHER = ItemDescription(50, "Star Wars", 1977, ["Action", "Adventure", "Sci-Fi"])


class Known(NamedTuple):
    """What examples are made of: a version, the kind of its model, and two of its items."""

    version: str = VERSION
    first: ItemDescription = FILM
    second: ItemDescription = OTHER
    schema: DataSchema = DataSchema()
    kind: str = "sequential"


class Operation(NamedTuple):
    """The examples of one operation."""

    answer: Any  # as JSON, or text; None for a page
    requests: Mapping[str, Any] = {}  # a body by what it asks for
    parameters: Mapping[str, Any] = {}  # a value by the name of the parameter


class Examples:
    """The examples of all operations, by method and path."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._user: int | str = "user-42" if known.schema.ids.user_id == "text" else 42

    def of(self) -> dict[tuple[str, str], Operation]:
        """Return the examples."""
        known, user = self._known, self._user
        first, second = known.first.item_id, known.second.item_id
        item, other = _item(known.first), _item(known.second)
        found = {"version": known.version, "items": [item, other]}
        event = {"user_id": user, "item_id": first, "time": TIME, "event_id": "click-9f3"}
        return {
            ("post", "/v1/recommendations"): Operation(self._ranking(), self._questions()),
            ("post", "/v1/events"): Operation(
                {"results": [{"outcome": "applied", "known": True, "version": known.version}]},
                {
                    "One event": {"events": [event]},
                    "Two events that happened now": {
                        "events": [{"user_id": user, "item_id": first}, {"user_id": user, "item_id": second}]
                    },
                },
            ),
            ("post", "/v1/outcomes"): Operation(
                {"results": [{"result": "accepted"}]},
                {
                    "A click on an item of a list": {
                        "outcomes": [{"user_id": user, "kind": "click", "item_id": first, "request_id": "5f0c2b7d9a1e4c63"}]
                    },
                    "A purchase with its price": {
                        "outcomes": [{"user_id": user, "kind": "buy", "item_id": first, "value": 19.9, "outcome_id": "order-81"}]
                    },
                },
            ),
            ("get", "/v1/items"): Operation(found, parameters={"query": known.first.title[:20] or str(first), "limit": 20}),
            ("get", "/v1/items/{item_id}/similar"): Operation(
                {"version": known.version, "item": item, "items": [other | {"similarity": 0.83}]},
                parameters={"item_id": str(first), "k": 10},
            ),
            ("get", "/v1/onboarding"): Operation(found, parameters={"count": 12}),
            ("get", "/v1/users/{user_id}/events"): Operation(
                {"user_id": user, "count": 1, "events": [{"item_id": first, "title": known.first.title, "time": TIME}]},
                parameters={"user_id": str(user)},
            ),
            ("delete", "/v1/users/{user_id}"): Operation(
                {
                    "user_id": user,
                    "erased": "2026-11-24T09:28:02+00:00",
                    "remains": [{"what": "files of landing zones, exports and backups", "until": "their own deletion"}],
                },
                parameters={"user_id": str(user)},
            ),
            ("get", "/v1/models"): Operation(self._models()),
            ("get", "/healthz"): Operation({"status": "alive"}),
            ("get", "/readyz"): Operation({"status": "ready", "detail": ""}),
            ("get", "/metrics"): Operation('recsys_requests_total{code="200",route="/v1/recommendations"} 1027.0\n'),
            ("get", "/"): Operation(
                {
                    "model_name": "movie-ranker",
                    "champion": known.version,
                    "documentation": "docs",
                    "description": "openapi.json",
                    "models": "v1/models",
                    "pages": "pages/",
                    "alive": "healthz",
                    "ready": "readyz",
                    "metrics": "metrics",
                }
            ),
            ("get", "/pages/"): Operation(None),
            ("get", "/pages/{key}"): Operation(None, parameters={"key": f"models/movie-ranker/{known.version}/report.html"}),
        }

    def _questions(self) -> dict[str, Any]:
        """Return bodies of requests for recommendations."""
        first, second = self._known.first, self._known.second
        asked: dict[str, Any] = {
            "For a user": {"user_id": self._user, "k": 10},
            "For a history that is sent along": {
                "history": [{"item_id": second.item_id, "time": TIME - 60}, {"item_id": first.item_id, "time": TIME}],
                "k": 5,
            },
            "For somebody of whom nothing is known": {"k": 5},
            "Without being counted in an experiment": {"user_id": self._user, "preview": True},
        }
        if first.genres:
            asked["Only some items, with reasons"] = {
                "user_id": self._user,
                "k": 10,
                "genres": first.genres[:1],
                "exclude": [second.item_id],
                "explain": True,
            }
        return asked

    def _ranking(self) -> dict[str, Any]:
        first, second = self._known.first, self._known.second
        because = {"item_id": second.item_id, "title": second.title, "similarity": 0.83}
        return {
            "version": self._known.version,
            "user_id": self._user,
            "time": TIME,
            "source": "state",
            "detail": "",
            "events": 57,
            "cached": False,
            "experiment": None,
            "arm": None,
            "items": [_item(first) | {"score": 4.25, "rules": [], "because": because}],
        }

    def _models(self) -> dict[str, Any]:
        known = self._known
        served = {
            "version": known.version,
            "role": "champion",
            "kind": known.kind,
            "promotion": 3,
            "items": 1682,
            "state_bytes": 4096,
        }
        schema = known.schema
        return {
            "model_name": "movie-ranker",
            "promotion": 3,
            "log": {"read": "2026-11-24T09:28:02+00:00", "fault": None},
            "data": {
                "user_id": schema.ids.user_id,
                "item_id": schema.ids.item_id,
                "repeats": schema.repeats,
                "attributes": dict(schema.attributes),
                "nouns": schema.nouns.model_dump(),
            },
            "served": [served],
            "refused": [],
        }


def _item(item: ItemDescription) -> dict[str, Any]:
    return item._asdict()
