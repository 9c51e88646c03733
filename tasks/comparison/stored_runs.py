"""The runs of a comparison in the store.

Each run has its ranks in `runs/<entry>-<seed>.parquet`, sealed by its record in `runs/<entry>-<seed>.json`. Both files are written
once, so a comparison that was killed resumes with the missing runs.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from configs.errors import AlreadyExistsError, ComparisonError, VersionCorruptError
from infra.digests import sha256_of
from infra.storage import Store
from models.evaluation import Ranking
from models.recommender import IntArray
from tasks.tracking import RunRecord

__all__ = ["StoredRun", "read_json", "read_record", "read_run", "refuse_other_requests", "run_key", "write_run"]


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run of the comparison: its record, and the rank of each request's target."""

    entry: str
    seed: int
    record: RunRecord
    user_ids: IntArray  # (R,)
    targets: IntArray  # (R,) raw item ids
    ranks: IntArray  # (R,) from 1


def read_record(store: Store, comparison: str, entry: str, seed: int) -> RunRecord:
    """Read the record of a run. Raises NotFoundError if the run has not ended."""
    return RunRecord.from_dict(read_json(store, f"{run_key(comparison, entry, seed)}.json"))


def read_run(store: Store, comparison: str, entry: str, seed: int) -> StoredRun:
    """Read a run with its ranks.

    Raises:
        NotFoundError: The run has not ended.
        VersionCorruptError: The ranks differ from those that were sealed.
    """
    key = run_key(comparison, entry, seed)
    sealed = read_json(store, f"{key}.json")
    content = store.get(f"{key}.parquet")
    if sha256_of(content) != sealed["ranks_sha256"]:
        raise VersionCorruptError(
            f"{store.uri(f'{key}.parquet')} does not match its record. Delete both files, and start the comparison again: "
            "only missing runs are executed."
        )
    frame = pd.read_parquet(io.BytesIO(content))
    users, targets, ranks = (frame[column].to_numpy(np.int64) for column in ("user_id", "target", "rank"))
    return StoredRun(entry, seed, RunRecord.from_dict(sealed), users, targets, ranks)


def refuse_other_requests(runs: list[StoredRun]) -> None:
    """Raise ComparisonError if two runs were not ranked on the same requests."""
    for run in runs[1:]:
        if not (np.array_equal(run.user_ids, runs[0].user_ids) and np.array_equal(run.targets, runs[0].targets)):
            raise ComparisonError(
                f"{run.entry} seed {run.seed} and {runs[0].entry} seed {runs[0].seed} were ranked on different requests, "
                "although they have the same dataset version and protocol: different versions of this product made the splits. "
                "Give the comparison another id."
            )


def write_run(store: Store, key: str, record: RunRecord, ranking: Ranking) -> None:
    buffer = io.BytesIO()
    columns = {"user_id": ranking.user_ids, "target": ranking.targets, "rank": ranking.ranks}
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    content = buffer.getvalue()
    sealed = {"format": 1, **record.to_dict(), "ranks_sha256": sha256_of(content)}
    try:
        store.put_new(f"{key}.parquet", content)
    except AlreadyExistsError:
        if store.exists(f"{key}.json"):
            return  # another process has stored this run
        if store.get(f"{key}.parquet") != content:  # left by a process that was killed before it sealed them
            store.delete(f"{key}.parquet")
            store.put_new(f"{key}.parquet", content)
    with suppress(AlreadyExistsError):  # another process has just stored this run
        store.put_new(f"{key}.json", json.dumps(sealed, indent=2).encode())


def run_key(comparison: str, entry: str, seed: int) -> str:
    return f"comparisons/{comparison}/runs/{entry}-{seed}"


def read_json(store: Store, key: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(store.get(key))
    except ValueError as error:
        raise VersionCorruptError(
            f"{store.uri(key)} cannot be read as JSON ({error}): it was changed after it was stored. Delete it, and start the "
            "comparison again: only missing runs are executed."
        ) from error
    return found
