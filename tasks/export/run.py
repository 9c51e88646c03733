"""Writes an export piece by piece, so that a killed one goes on after its last complete file, and seals it with a manifest."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.clock import wall_clock
from configs.errors import CannotExportError
from configs.settings import EtlSettings, ExportSettings
from infra.digests import sha256_of
from infra.erasures import erased_users
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.columns import Columns
from models.recommender import IntArray, Requests
from tasks.datasets import Arrays, DatasetRef, external_ids, read_events, read_table
from tasks.export.answers import Answers, parquet, vectors_of
from tasks.export.plan import LATEST, MANIFEST, ExportPlan, continued
from tasks.export.program import program_files
from tasks.export.users import EVENT_COLUMNS, ChosenUsers, pieces_of
from tasks.export.workers import Work, workers_of

__all__ = ["ExportSource", "Exported", "Progress", "export_version"]

BY_USER = ("top_k", "user_vectors")
Progress = Callable[[int, int], None]
"""Called after each piece, with the number of users that are done and that of all users."""


@dataclass(frozen=True)
class Exported:
    """A complete export."""

    uri: str
    model_name: str
    version: str
    dataset: str
    at: int  # UTC seconds
    users: int
    items: int
    files: int
    kept: int  # of these files: how many an earlier run had written
    left_out: dict[str, str] = field(default_factory=dict)  # part -> why
    seconds: float = 0.0

    @property
    def users_per_s(self) -> float:
        return self.users / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "users_per_s": round(self.users_per_s, 1)}


@dataclass(frozen=True)
class ExportSource:
    """A model version, and the users that it recommends to."""

    store: Store  # of both
    ref: ModelRef
    dataset: DatasetRef  # its users get recommendations, from their events in it


def export_version(
    source: ExportSource,
    destination: Store,
    settings: ExportSettings,
    engine: EtlSettings,
    *,
    users: ChosenUsers | None = None,
    progress: Progress = lambda done, users: None,
) -> Exported:
    """Write an export of a version, and return what it contains.

    If an export of the same content was begun today and not finished, it is continued.

    Args:
        source: The version and the dataset.
        destination: Where the export goes.
        settings: What it contains.
        engine: Where the pieces are computed, and a folder for them.
        users: The users to export. None takes all users of the dataset.
        progress: Called after each piece.

    Raises:
        CannotExportError: The model has none of the parts.
        SettingsError: The cluster cannot be used.
    """
    store, ref, dataset = source.store, source.ref, source.dataset
    started = time.monotonic()
    erased = np.array(sorted(erased_users(store)), np.int64)
    if users is not None:
        users = users.without(erased)
    plan = ExportPlan(
        model_name=ref.name,
        version=ref.version,
        dataset=f"{dataset.name}/{dataset.version}",
        at=int(wall_clock()) if settings.at is None else settings.at,
        parts=tuple(settings.parts),
        k=settings.k,
        hide_seen=settings.seen == "hide" or (settings.seen == "auto" and not dataset.properties.keeps_repeats),
        piece_users=settings.piece_users,
        users=None if users is None else sha256_of(np.ascontiguousarray(users.ids).tobytes()),
        erased=sha256_of(erased.tobytes()) if len(erased) else None,
    )
    if settings.at is None:
        plan = continued(plan, destination)
    engine.work_dir.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="export-", dir=engine.work_dir) as scratch,
        ModelRegistry(store).fetched(ref, within=engine.work_dir, serving=True) as folder,
    ):
        writing = _Export(plan, Answers(folder), destination)
        writing.write_model_parts(lambda ids: _named(external_ids(store, dataset, Columns.USER), ids, erased))
        count = _others(store, dataset, erased) if users is None else len(users.ids)
        if any(part in writing.parts for part in BY_USER):
            names = _UserNames(external_ids(store, dataset, Columns.USER), users)
            events = (_of_others(chunk, erased) for chunk in read_events(store, dataset, EVENT_COLUMNS))
            writing.write_user_parts(events, names, engine, Path(scratch), lambda done: progress(done, count))
        return writing.seal(count, time.monotonic() - started)


class _Export:
    """An export that is being written."""

    def __init__(self, plan: ExportPlan, answers: Answers, destination: Store) -> None:
        self._plan, self._answers, self._destination = plan, answers, destination
        self._before = {key.removeprefix(f"{plan.prefix}/") for key in destination.list(f"{plan.prefix}/")}
        self._files: dict[str, dict[str, Any]] = {}
        self.parts: list[str] = list(plan.parts)
        self._left_out: dict[str, str] = {}

    def write_model_parts(self, user_names: Callable[[IntArray], pa.Array]) -> None:
        """Write what does not depend on the events: item vectors and the program. Leave out the parts that the model lacks."""
        model = self._answers.trained
        makers: dict[str, Callable[[], dict[str, bytes]]] = {
            "item_vectors": lambda: {
                "00000.parquet": parquet(
                    {Columns.ITEM: self._answers.item_names, "vector": vectors_of(model.item_vectors().cpu().numpy())}
                )
            },
            "program": lambda: self._program(user_names),
            "user_vectors": self._try_user_vectors,
        }
        for part, make in makers.items():
            if part in self.parts:
                try:
                    files = make()
                except CannotExportError as error:
                    self.parts.remove(part)
                    self._left_out[part] = str(error)
                else:
                    for name, content in files.items():
                        self._put(f"{part}/{name}", content)
        if not self.parts:
            raise CannotExportError(f"Nothing can be exported. {' '.join(self._left_out.values())} Add top_k to export.parts.")

    def write_user_parts(
        self, events: Iterator[Arrays], names: _UserNames, engine: EtlSettings, scratch: Path, done: Callable[[int], None]
    ) -> None:
        """Write the parts that have a row for each user, except for the pieces that are there."""
        parts = [part for part in BY_USER if part in self.parts]
        plan = ExportPlan(**{**asdict(self._plan), "parts": tuple(parts)})
        finished = 0

        def missing() -> Iterator[Work]:
            nonlocal finished
            for piece in pieces_of(events, plan.piece_users, names.chosen):
                files = [f"{part}/{piece.number:05d}.parquet" for part in parts]
                if all(file in self._before for file in files):
                    for file in files:
                        self._keep(file)
                    finished += len(piece)
                    done(finished)
                else:
                    yield piece, names.of(piece.user_ids)

        with workers_of(engine, scratch) as workers:
            for number, users, tables in workers.compute(self._answers.folder, plan, missing()):
                for part, content in tables.items():
                    self._put(f"{part}/{number:05d}.parquet", content)
                finished += users
                done(finished)

    def seal(self, users: int, seconds: float) -> Exported:
        """Write the manifest, and name this export as the newest one."""
        plan, model = self._plan, self._answers.trained
        found = Exported(
            uri=self._destination.uri(plan.prefix),
            model_name=plan.model_name,
            version=plan.version,
            dataset=plan.dataset,
            at=plan.at,
            users=users if any(part in self.parts for part in BY_USER) else 0,
            items=len(self._answers.items),
            files=len(self._files),
            kept=sum(record["kept"] for record in self._files.values()),
            left_out=self._left_out,
            seconds=round(seconds, 2),
        )
        manifest = {
            "format": 1,
            **asdict(plan),
            "parts": self.parts,
            "left_out": self._left_out,
            "kind": model.name,
            "scores_are_products_of_vectors": type(model).products,
            "users": found.users,
            "chosen_users": plan.users,
            "items": found.items,
            "files": {name: {key: record[key] for key in ("sha256", "rows")} for name, record in sorted(self._files.items())},
        }
        self._destination.put(f"{plan.prefix}/{MANIFEST}", (json.dumps(manifest, indent=2) + "\n").encode())
        latest = {"export": plan.name, "version": plan.version, "dataset": plan.dataset, "at": plan.at}
        self._destination.put(f"{plan.model_name}/{LATEST}", (json.dumps(latest, indent=2) + "\n").encode())
        return found

    def _program(self, user_names: Callable[[IntArray], pa.Array]) -> dict[str, bytes]:
        program = self._answers.trained.program()
        names = None if program.users is None else user_names(program.users)
        return program_files(program, self._answers.item_names, names)

    def _try_user_vectors(self) -> dict[str, bytes]:
        """Ask for the vector of one request, so that a model without vectors says so before any piece is computed."""
        one = np.zeros(1, np.int64)
        item = self._answers.items[:1]
        self._answers.trained.user_vectors(Requests(one, np.array([0, 1]), item, one, request_times=one, targets=item))
        return {}

    def _put(self, name: str, content: bytes) -> None:
        self._destination.put(f"{self._plan.prefix}/{name}", content)
        self._files[name] = {"sha256": sha256_of(content), "rows": _rows(name, content), "kept": False}

    def _keep(self, name: str) -> None:
        content = self._destination.get(f"{self._plan.prefix}/{name}")
        self._files[name] = {"sha256": sha256_of(content), "rows": _rows(name, content), "kept": True}


class _UserNames:
    """The team's own ids of the users of a dataset."""

    def __init__(self, texts: pd.Series[str] | None, users: ChosenUsers | None) -> None:
        """`texts` has the texts of the dataset's users by number, or is None if their ids are whole numbers."""
        self.chosen = None if users is None else users.ids
        self._texts = texts
        if texts is not None and users is not None and users.texts is not None:
            new = ~np.isin(users.ids, texts.index.to_numpy())
            given = pd.Series(np.array(users.texts, dtype=object)[new], index=users.ids[new], dtype="string")
            self._texts = pd.concat([texts.astype("string"), given])

    def of(self, user_ids: IntArray) -> pa.Array:
        return _named(self._texts, user_ids)


def _others(store: Store, dataset: DatasetRef, erased: IntArray) -> int:
    """Return the number of a dataset's users who were not erased."""
    if not len(erased):
        return dataset.users
    return dataset.users - int(read_table(store, dataset, "users", [Columns.USER])[Columns.USER].isin(erased).sum())


def _of_others(events: Arrays, erased: IntArray) -> Arrays:
    """Return the events of users who were not erased. A version that is older than an erasure still has theirs."""
    if not len(erased):
        return events
    kept = ~np.isin(events[Columns.USER], erased)
    return {name: cells[kept] for name, cells in events.items()}


def _named(texts: pd.Series[str] | None, user_ids: IntArray, erased: IntArray = np.empty(0, np.int64)) -> pa.Array:  # noqa: B008
    """Return the ids as the team knows them. A text that the dataset no longer has, and the id of an erased user, is null."""
    gone = np.isin(user_ids, erased)
    if texts is None:
        return pa.array(user_ids, mask=gone)
    found = texts.reindex(user_ids)
    return pa.array([None if out or pd.isna(text) else text for text, out in zip(found, gone, strict=True)], pa.string())


def _rows(name: str, content: bytes) -> int | None:
    return int(pq.ParquetFile(pa.BufferReader(content)).metadata.num_rows) if name.endswith(".parquet") else None
