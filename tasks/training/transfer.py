"""Pass candidates from the machine that trained them to another run, through the store. Every file is checked by its digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from configs.errors import NotFoundError, TrainingError, VersionCorruptError
from configs.kinds import KindName
from infra.registry import MOST_JSON, Digest, FileName, fetch_files, machine_facts, read_json
from infra.storage import Store
from tasks.training.candidates import Candidate

__all__ = ["Machine", "Origin", "delete_uploaded", "download_candidates", "upload_candidates"]

RECORD = "candidates.json"


class Machine(BaseModel):
    """The machine that trained the candidates. Its fields are fields of a version's lineage."""

    model_config = ConfigDict(frozen=True)

    git_commit: str | None
    python: str
    packages: dict[str, str]
    hardware: dict[str, Any]

    @classmethod
    def here(cls, trained: Candidate) -> Machine:
        """Return the facts of this machine, on which a candidate was trained."""
        return cls.model_validate(machine_facts(trained.replicas, trained.threads))


@dataclass(frozen=True)
class _Candidate(Candidate):
    """A candidate in a record. Its kind and file names are plain, so that none can point outside its folder."""

    kind: KindName
    files: dict[FileName, Digest]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    machine: Machine
    candidates: list[_Candidate]


@dataclass(frozen=True)
class Origin:
    """Where a version's candidates were trained, if not by the run that publishes them, and the cost."""

    machine: Machine
    cost: float | None  # of the training, in USD; None if unknown
    rented: str = ""  # the machines that it was paid for, in words


def upload_candidates(store: Store, run: str, candidates: list[Candidate]) -> str:
    """Store the candidates of the flow run `run`, and return the key of their record.

    The record is written last: without it, the upload does not exist.
    """
    prefix = _prefix(run)
    for candidate in candidates:
        for name in candidate.files:
            store.put(f"{prefix}/{candidate.kind}/{name}", Path(candidate.folder) / name)
    record = {
        "format": 1,
        "machine": Machine.here(candidates[-1]).model_dump(),
        "candidates": [candidate.to_dict() for candidate in candidates],
    }
    store.put(f"{prefix}/{RECORD}", json.dumps(record, indent=2).encode())
    return f"{prefix}/{RECORD}"


def download_candidates(store: Store, run: str, kinds: Sequence[str], folder: Path) -> tuple[list[Candidate], Machine]:
    """Fetch the candidates of the flow run `run` into `folder`, and return them with the machine that trained them.

    Args:
        store: Store to which the run uploaded its candidates.
        run: Id of the flow run.
        kinds: Kinds of the candidates that are expected, in their order.
        folder: Folder for one subfolder per candidate.

    Raises:
        TrainingError: There are no candidates, or they are not of `kinds`.
        VersionCorruptError: The record is damaged, or a file differs from the one that was trained.
    """
    prefix = _prefix(run)
    try:
        content = store.get(f"{prefix}/{RECORD}", MOST_JSON)
    except NotFoundError as error:
        raise TrainingError(
            f"The flow run {run} has trained, but there is nothing at {store.uri(prefix)}: it writes to another store. Give "
            "both runs the same store.url."
        ) from error
    what = f"The record {store.uri(f'{prefix}/{RECORD}')}"
    try:
        record = _Record.model_validate(read_json(content, what))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise VersionCorruptError(f"{what} is damaged ({where}: {first['msg']}). Run again.") from error
    if [candidate.kind for candidate in record.candidates] != list(kinds):
        trained = ", ".join(candidate.kind for candidate in record.candidates)
        raise TrainingError(
            f"The flow run {run} trained {trained} instead of {', '.join(kinds)}: it runs another version of the code. "
            "Deploy the same version."
        )
    return [_fetched(store, prefix, candidate, folder) for candidate in record.candidates], record.machine


def delete_uploaded(store: Store, run: str) -> None:
    """Delete the candidates that the flow run uploaded, starting with their record."""
    prefix = _prefix(run)
    store.delete(f"{prefix}/{RECORD}")
    for key in list(store.list(f"{prefix}/")):
        store.delete(key)


def _fetched(store: Store, prefix: str, candidate: Candidate, folder: Path) -> Candidate:
    own = folder / candidate.kind
    shutil.rmtree(own, ignore_errors=True)
    fetch_files(store, f"{prefix}/{candidate.kind}", candidate.files, own)
    return Candidate(**{**{name: getattr(candidate, name) for name in Candidate.__dataclass_fields__}, "folder": str(own)})


def _prefix(run: str) -> str:
    return f"handed-over/{UUID(run)}"
