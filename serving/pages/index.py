"""The list of the newest pages of a store, as a page."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from configs.errors import RecsysError
from infra.pages import is_page, render_template
from infra.registry import MOST_JSON, ModelRegistry, read_json
from infra.storage import Store

__all__ = ["render_index"]

logger = logging.getLogger(__name__)
TEMPLATE = "serving/pages/templates/index.html"
NEWEST = 20  # rows of a table; for each one, an object is read
MOST_KEYS = 50_000  # of one listing


@dataclass
class Row:
    """A version, a measurement or a study, with the links to its pages."""

    name: str
    when: str  # UTC
    verdict: str = ""
    note: str = ""
    links: dict[str, str] = field(default_factory=dict)  # text -> key


@dataclass
class Table:
    """The rows of one kind, newest first."""

    title: str
    of: str  # what the first column names
    rows: list[Row] = field(default_factory=list)
    more: int = 0  # rows that are not shown
    fault: str = ""


def render_index(store: Store) -> bytes:
    """Render the list of the newest pages: of versions, rollouts, drift, answers to whether a retraining is due, comparisons and replays.

    A part of the store that cannot be read is named on the page, beside the other parts.

    Raises:
        RecsysError: No part of the store can be read.
    """
    tables, errors = [], []
    for title, of, make in (
        ("Model versions", "version", _versions),
        ("Rollouts", "stage", _rollouts),
        ("Drift", "dataset", _drift),
        ("Retraining", "model", _due),
        ("Comparisons", "comparison", _comparisons),
        ("Replays", "replay", _replays),
    ):
        table = Table(title, of)
        try:
            rows = make(store)
            table.rows, table.more = rows[:NEWEST], max(len(rows) - NEWEST, 0)
        except RecsysError as error:
            logger.warning("a part of the index of pages cannot be read", extra={"reason": str(error)})
            table.fault = "This part of the store cannot be read. The server's log says why."
            errors.append(error)
        tables.append(table)
    if len(errors) == len(tables):
        raise errors[0]
    return render_template(TEMPLATE, tables=tables).encode()


def _pages(store: Store, prefix: str) -> Iterable[list[str]]:
    """Yield the parts of the keys of the pages below a prefix."""
    return (key.split("/") for key in islice(store.list(prefix), MOST_KEYS) if is_page(key))


def _versions(store: Store) -> list[Row]:
    """Return the model versions, with the gate's verdict on each."""
    found: dict[tuple[str, str], Row] = {}

    def row(name: str, version: str) -> Row:
        return found.setdefault((name, version), Row(version, _time(version)))

    for _, name, version, file in _pages(store, "models/"):
        text = {"report.html": "decision", "recsys_report.html": "recommendations", "decision.json": "figures"}[file]
        row(name, version).links[text] = f"models/{name}/{version}/{file}"
    for _, name, version, file in _pages(store, "decisions/"):
        if file.endswith(".html"):
            row(name, version).links[f"decision of {_time(file)}"] = f"decisions/{name}/{version}/{file}"
    for _, name, version, file in _pages(store, "runs/"):
        row(name, version).links[f"run of {file.removesuffix('.json')}"] = f"runs/{name}/{version}/{file}"
    ordered = sorted(found, key=lambda place: place[1], reverse=True)
    registry = ModelRegistry(store)
    names = {name for name, _ in found}
    champions = {name: entry.version for name in names if (entry := registry.newest(name)) is not None}
    for name, version in ordered[:NEWEST]:
        try:
            outcome = registry.version(name, version).outcome
        except RecsysError:  # never sealed, or damaged: its pages can be read all the same
            outcome = "not sealed"
        each = found[name, version]
        each.verdict = "champion" if champions.get(name) == version else outcome
        each.note = name if len(names) > 1 else ""
    return [found[place] for place in ordered]


def _rollouts(store: Store) -> list[Row]:
    """Return the stages of rollouts, each with the promotion that began it and what became of it."""
    found: dict[tuple[str, str], Row] = {}
    for _, name, entry, file in _pages(store, "rollouts/"):
        row = found.setdefault((entry, name), Row(f"{name}, promotion {entry.lstrip('0')}", ""))
        row.links[_report(file)] = f"rollouts/{name}/{entry}/{file}"
    ordered = sorted(found, reverse=True)
    for place in ordered[:NEWEST]:
        if (key := found[place].links.get("figures")) is not None:
            found[place].verdict = str(read_json(store.get(key, MOST_JSON), store.uri(key)).get("said", ""))
    return [found[place] for place in ordered]


def _drift(store: Store) -> list[Row]:
    """Return the measurements of drift, with the verdict of each."""
    found: dict[tuple[str, str, str], Row] = {}
    for _, name, version, file in _pages(store, "drift/"):
        stamp, _, kind = file.partition(".")
        text = {"html": "checks", "evidently.html": "Evidently", "json": "figures"}[kind]
        row = found.setdefault((stamp, name, version), Row(f"{name}/{version}", _time(stamp)))
        row.links[text] = f"drift/{name}/{version}/{file}"
    ordered = sorted(found, reverse=True)
    for place in ordered[:NEWEST]:
        if (key := found[place].links.get("figures")) is not None:
            found[place].verdict = str(read_json(store.get(key, MOST_JSON), store.uri(key)).get("verdict", ""))
    return [found[place] for place in ordered]


def _due(store: Store) -> list[Row]:
    """Return the answers to whether a retraining is due."""
    found: dict[tuple[str, str], Row] = {}
    for _, name, file in _pages(store, "due/"):
        stamp, _, kind = file.partition(".")
        row = found.setdefault((stamp, name), Row(name, _time(stamp)))
        row.links["answer" if kind == "html" else "figures"] = f"due/{name}/{file}"
    ordered = sorted(found, reverse=True)
    for place in ordered[:NEWEST]:
        if (key := found[place].links.get("figures")) is not None:
            due = read_json(store.get(key, MOST_JSON), store.uri(key)).get("retrain")
            found[place].verdict = "due" if due else "not due"
    return [found[place] for place in ordered]


def _comparisons(store: Store) -> list[Row]:
    found: dict[str, Row] = {}
    for _, id_, file in _pages(store, "comparisons/"):
        found.setdefault(id_, Row(id_, "")).links[_report(file)] = f"comparisons/{id_}/{file}"
    return [found[id_] for id_ in sorted(found)]


def _replays(store: Store) -> list[Row]:
    found: dict[str, Row] = {}
    for parts in _pages(store, "replays/"):
        if parts[2] == "replay":  # the versions within a replay are reached from its page
            found.setdefault(parts[1], Row(parts[1], "")).links[_report(parts[-1])] = "/".join(parts)
    return [found[id_] for id_ in sorted(found)]


def _report(file: str) -> str:
    return "report" if file.endswith(".html") else "figures"


def _time(name: str) -> str:
    """Return the time at the start of a name such as `20261129T202659Z-...`, or nothing if there is none."""
    day, _, time = name[:15].partition("T")
    if not (len(day) == 8 and len(time) == 6 and (day + time).isdecimal()):
        return ""
    return f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]} UTC"
