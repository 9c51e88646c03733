"""Store each answer, as figures and as a page that shows it beside the answers before it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from infra.pages import render_template
from infra.registry import MOST_JSON, read_json
from infra.storage import Store
from tasks.best_effort import LOG, attempt
from tasks.retraining.answer import Answer
from tasks.retraining.policies import DAY_S

__all__ = ["StoredAnswer", "answers_before", "keep_answer"]

TEMPLATE = "tasks/retraining/templates/due.html"
SHOWN = 30  # earlier answers on a page
FOLDER = "due"


@dataclass(frozen=True)
class StoredAnswer:
    """An answer, and where it is stored."""

    answer: Answer
    figures: str  # address of the JSON
    page: str | None  # address of the page; None if it could not be rendered


def keep_answer(store: Store, answer: Answer, now: datetime | None = None) -> StoredAnswer:
    """Write `due/<model>/<stamp>.json` and `.html`.

    Args:
        store: The store of the model.
        answer: The answer.
        now: Time of the record. The default is the clock of this machine.
    """
    before = answers_before(store, answer.model_name)
    prefix = f"{FOLDER}/{answer.model_name}/{now or datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    page = attempt("The page about the next retraining", render_answer, LOG, answer, before)
    store.put_new(f"{prefix}.json", json.dumps(answer.to_dict(), indent=2, allow_nan=False).encode())
    if page is not None:
        store.put_new(f"{prefix}.html", page)
    return StoredAnswer(answer, store.uri(f"{prefix}.json"), store.uri(f"{prefix}.html") if page is not None else None)


def answers_before(store: Store, model_name: str, most: int = SHOWN) -> list[Answer]:
    """Return the newest answers about a model, newest first."""
    keys = sorted((key for key in store.list(f"{FOLDER}/{model_name}/") if key.endswith(".json")), reverse=True)
    found = store.listed(keys, MOST_JSON)
    return [Answer(**read_json(content, store.uri(key))) for key, content in islice(found, most)]


def render_answer(answer: Answer, before: list[Answer]) -> bytes:
    """Render one self-contained page: today's answer, what it is based on, and the answers before it."""
    return render_template(TEMPLATE, answer=answer, before=before, days=_days).encode()


def _days(seconds: int | None) -> str:
    return "" if seconds is None else f"{seconds / DAY_S:.1f}"
