"""The settings that a survey proposes, as commented YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.errors import SettingsError
from configs.loading import settings_in
from configs.settings import RetrainSettings
from models.columns import Columns
from tasks.survey.columns import texts_in
from tasks.survey.one_line_yaml import commented, in_one_line
from tasks.survey.roles import LONGEST_NAME, MOST_KINDS, OWN
from tasks.survey.survey import Survey, Surveyed
from tasks.survey.thresholds import thresholds_of

__all__ = ["MOST_SETTINGS", "Proposal", "Setting", "file_stem", "proposal_of"]

MOST_SETTINGS = 6
ZERO = re.compile(r"[+-]?(0+\.?0*|\.0+)")
ROLES = {"user": "the user's id", "item": "the item's id", "timestamp": "the time"}


@dataclass(frozen=True)
class Setting:
    """One proposed setting. One that is not `active` is written as a comment."""

    name: str
    value: Any
    why: str
    active: bool = True
    alternatives: tuple[str, ...] = ()
    """Lines of YAML with other values."""
    is_optional: bool = False
    """Whether the run does without it. Such a setting is only active while there are fewer than MOST_SETTINGS."""

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Proposal:
    """What the survey proposes."""

    settings: tuple[Setting, ...]
    open: tuple[str, ...]
    """What the data leave open, in sentences. A retraining needs an answer to the `blocking` ones."""
    blocking: tuple[str, ...] = field(default=())

    @property
    def active(self) -> tuple[Setting, ...]:
        return tuple(setting for setting in self.settings if setting.active)

    def yaml(self, source: Path) -> str:
        """Return the settings file, for a survey of `source`."""
        lines = [
            f"# Proposed by recsys init for {commented(source.name)}. Remove the `# ` in front of a setting to use it; the file runs with",
            "# recsys retrain -c and the name of this file.",
            *(f"# OPEN: {commented(said)}" for said in (*self.blocking, *self.open)),
        ]
        sections: dict[str, list[Setting]] = {}
        for setting in self.settings:
            sections.setdefault(setting.section, []).append(setting)
        for section in sorted(sections, key=lambda name: (name != "", name != "data", list(sections).index(name))):
            parts = [part for part in section.split(".") if part]
            used = "" if any(setting.active for setting in sections[section]) else "# "
            lines += ["", *(f"{'  ' * depth}{used}{part}:" for depth, part in enumerate(parts))]
            indent = "  " * len(parts)
            for setting in sections[section]:
                lines.append(
                    f"{indent}{'' if setting.active else '# '}{setting.key}: {in_one_line(setting.value)}  # {commented(setting.why)}"
                )
                lines += [f"{indent}# {line}" for line in setting.alternatives]
        return "\n".join(lines) + "\n"


def proposal_of(found: Survey, path: Path, taken_by: str | None = None) -> Proposal:
    """Return the settings that fit what was found.

    Args:
        found: The survey.
        path: What `data.local_path` should name.
        taken_by: The dataset that the champion of the default model name was trained on, if there is one. Champions of two datasets
            need two names.
    """
    events = found.events
    blocking: list[str] = []
    undecided: list[str] = []
    first = [
        Setting("data.local_path", str(path), "or `landing:` with the folder or s3:// address where files arrive"),
        Setting("data.dataset", file_stem(path), "the name that versions of the dataset are stored under"),
        *_columns(events, blocking),
        *_times(events, blocking, undecided),
        *_feedback(events, undecided),
    ]
    figures = found.figures
    thresholds = [] if figures is None else thresholds_of(figures, events.column("rating"))
    needed = [Setting(each.setting, each.value, each.why) for each in thresholds if each.is_needed]
    settings = _limited([*first, *needed, *_model_name(path, taken_by), *_repeats(found, undecided), *_tables(found)])
    settings += [*_weights(events, undecided), *_id_types(events, undecided), _nouns(events)]
    settings += [Setting(each.setting, each.value, each.why, active=False) for each in thresholds if not each.is_needed]
    undecided += [
        f"{each.why}; remove the mark in front of {each.name} to use what it names."
        for each in settings
        if each.is_optional and not each.active
    ]
    least = RetrainSettings().promotion.min_requests
    if figures is not None and figures.users < least:
        undecided.append(
            f"the gate needs {least} users to judge on, and there are {figures.users:,}: nothing is promoted until there are more events."
        )
    undecided += [
        f"{name} beside the file describes {kind}; give the folder as data.local_path to use it."
        for name, kind in found.beside.items()
    ]
    return _accepted(Proposal(tuple(settings), tuple(undecided), tuple(blocking)), path)


def _accepted(proposal: Proposal, path: Path) -> Proposal:
    """Return the proposal, with what the settings refuse about it among what must be decided."""
    try:
        settings_in(RetrainSettings, proposal.yaml(path).encode(), Path(f"{file_stem(path)}.yaml"))
    except SettingsError as error:
        return replace(proposal, blocking=(*proposal.blocking, f"the settings are refused as they are. {error}"))
    return proposal


def _model_name(path: Path, taken_by: str | None) -> Iterator[Setting]:
    if taken_by is None or taken_by == file_stem(path):
        yield Setting("model_name", file_stem(path), "models of one name share a champion", active=False)
    else:
        default = RetrainSettings.model_fields["model_name"].default
        yield Setting("model_name", file_stem(path), f"the champion of {default}, the default, was trained on {taken_by}")


def _limited(wanted: list[Setting]) -> list[Setting]:
    """Return the settings with at most MOST_SETTINGS active ones. More are active if all of them are needed.

    An optional setting for which there is no room becomes a comment.
    """
    room = MOST_SETTINGS - sum(setting.active and not setting.is_optional for setting in wanted)
    found = []
    for setting in wanted:
        if setting.active and setting.is_optional:
            found.append(replace(setting, active=room > 0))
            room -= 1
        else:
            found.append(setting)
    return found


def _columns(events: Surveyed, blocking: list[str]) -> Iterator[Setting]:
    mapped = {
        role: name
        for role, name in events.roles.columns.items()
        if role != "weight" and Columns.ALIASES.get(name, name) != OWN.get(role)
    }
    weight = events.column("weight")
    if weight is not None and weight.kind != "text":
        mapped["weight"] = weight.name
    others = []
    for role, what in ROLES.items():
        if (names := events.roles.open.get(role)) is not None:
            blocking.append(
                f"which column is {what}? {', '.join(names) if names else 'No column looks like it'}. Fill in data.columns.{role}."
            )
            others += [{**mapped, role: name} for name in names[:4]]
    others += [{**mapped, "weight": name} for name in events.roles.open.get("weight", ())]
    if mapped or others:
        chosen, rest = (mapped, others) if mapped else (others[0], others[1:])
        why = "what the columns hold; the others are skipped"
        yield Setting(
            "data.columns", chosen, why, active=bool(mapped), alternatives=tuple(f"columns: {in_one_line(each)}" for each in rest)
        )


def _times(events: Surveyed, blocking: list[str], undecided: list[str]) -> Iterator[Setting]:
    time = events.column("timestamp")
    if time is None:
        return
    if len(time.formats) > 1:
        day = time.examples[0] if time.examples else ""
        blocking.append(
            f"how is the time {day} of {time.name} written? Every row fits {' and '.join(time.formats)}. Choose timestamp_format."
        )
        lines = tuple(f"timestamp_format: {in_one_line(each)}" for each in time.formats[1:4])
        yield Setting(
            "data.timestamp_format", time.formats[0], "choose one: the rows fit all of these", active=False, alternatives=lines
        )
    elif time.formats[0] not in ("iso", "parquet", "s", "ms", "us", "ns"):
        yield Setting("data.timestamp_format", time.formats[0], "as in Python's strptime")
    if not time.zone and time.formats[0] != "parquet":
        undecided.append(f"{time.name} does not say its time zone. UTC is a guess: set data.timezone.")
        yield Setting(
            "data.timezone", "UTC", "a guess: the times do not say their zone", alternatives=("timezone: Europe/Berlin",)
        )


def _feedback(events: Surveyed, undecided: list[str]) -> Iterator[Setting]:
    if events.column("rating") is not None:
        return
    why = "there is no rating; events count as they are"
    if names := events.roles.open.get("rating"):
        why = "no column has a few different numbers, as ratings are; events count as they are"
        undecided.append(
            f"{', '.join(names)} may hold ratings, but does not look like it. Events count as they are; to use ratings, write them as numbers, "
            "name the column in data.columns.rating and remove data.feedback."
        )
    yield Setting("data.feedback", "implicit", why)


def _repeats(found: Survey, undecided: list[str]) -> Iterator[Setting]:
    figures = found.figures
    if figures is None or not figures.rows:
        return
    keep = figures.keeps_repeats
    why = f"{figures.repeated / figures.rows:.0%} of the events are of a user and item that had one before"
    if keep:
        undecided.append(
            f"{why}. They are kept, as in a shop or a music service; repeats: newest counts one for each user and item."
        )
    yield Setting(
        "data.repeats", "keep" if keep else "newest", why, active=keep, alternatives=("repeats: newest",) if keep else ()
    )


def _tables(found: Survey) -> Iterator[Setting]:
    for kind, setting in (("items", "data.columns_items"), ("users", "data.columns_users")):
        for table in found.of(kind)[:1]:  # type: ignore[arg-type]
            value: dict[str, Any] = dict(table.roles.columns)
            if table.roles.attributes:
                value["attributes"] = list(table.roles.attributes)
            yield Setting(setting, value, f"{table.table.name} describes {kind}", is_optional=True)


def _weights(events: Surveyed, undecided: list[str]) -> Iterator[Setting]:
    name = next(iter(events.roles.open.get("weight", ())), events.roles.columns.get("weight"))
    weight = next((column for column in events.columns if column.name == name), None)
    if weight is None or (weight.kind != "text" and weight.name == events.roles.columns.get("weight")):
        return
    counts = {each["values"]: each["counts"] for each in texts_in(events.table.cells[weight.name]).value_counts().to_pylist()}
    counts.pop(None, None)
    add = f"add `weight: {in_one_line(weight.name)}` to data.columns"
    if weight.kind not in ("text", "integer") or len(counts) > MOST_KINDS:
        zeros = sum(count for text, count in counts.items() if ZERO.fullmatch(text))
        left_out = f" Its {zeros:,} events of weight 0 would be left out." if zeros else ""
        undecided.append(
            f"{weight.name} may say how much an event counts. All count alike; to weight them by it, {add}.{left_out}"
        )
        return
    ordered = sorted(counts, key=lambda kind: (-counts[kind], kind))
    if len(max(ordered, key=len)) > LONGEST_NAME:
        return
    listed = ", ".join(f"{kind} ({counts[kind]:,})" for kind in ordered)
    undecided.append(
        f"{weight.name} may say the kind of event: {listed}. All count alike; to weight them, {add} and set data.weights."
        + ("" if weight.kind == "text" else " Without data.weights, its numbers are the weights, and 0 leaves an event out.")
    )
    most = max(counts.values())
    proposed = {kind: max(0.05, round(min(1.0, (most / counts[kind]) * 0.1), 2)) for kind in ordered}
    yield Setting("data.weights", proposed, f"an example: rarer kinds of {weight.name} count more", active=False)


def _id_types(events: Surveyed, undecided: list[str]) -> Iterator[Setting]:
    zeros = [role for role in ("user", "item") if (column := events.column(role)) is not None and column.leading_zeros]
    if zeros:
        names = ", ".join(events.roles.columns[role] for role in zeros)
        undecided.append(f"{names} has numbers with leading zeros. As text, 007 and 7 are two ids; as integers they are one.")
        yield Setting("data.id_type", dict.fromkeys(zeros, "text"), "auto decides by the first rows", active=False)


def _nouns(events: Surveyed) -> Setting:
    value = {"item": "item", "items": "items", "event": "event", "events": "events"}
    return Setting("data.nouns", value, "words on pages and in messages", active=False)


def file_stem(path: Path) -> str:
    """Return the name of a file or folder without suffixes, as a dataset may be named."""
    stem = path.name.lower()
    while stem.endswith((".gz", ".csv", ".tsv", ".txt", ".parquet", ".pq", ".inter", ".zip")):
        stem = stem.rpartition(".")[0]
    found = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40]
    return found or "events"
