"""The latest events of every user of a dataset, stored for serving: `histories/<dataset>/<number>-<version>-<sha256>`.

The file of the greatest number counts. It is made from the newest version of the dataset, also if the champion was trained on an
earlier one: a user's history does not depend on the model, and what was removed from the dataset must not be served. It is written
at a promotion, after a removal, and by `recsys data histories`. A removal deletes it before the removal is recorded, so a run that
fails or is killed in between leaves too little, never too much.
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from configs.errors import AlreadyExistsError, NotFoundError
from configs.serving import StateSettings
from infra.digests import sha256_of
from infra.storage import Store
from models.columns import Columns
from models.histories import write_histories
from tasks.datasets.commit_log import LandingLog
from tasks.datasets.references import DatasetRef, list_datasets
from tasks.datasets.versions import external_ids, read_table

__all__ = ["forget_histories", "history_keys", "remember_histories", "renew_histories", "store_histories"]

LOG = logging.getLogger("recsys")
ATTEMPTS = 5  # other runs may add versions, and other writers files, at the same time


def history_keys(store: Store, dataset: str) -> list[str]:
    """Return the keys of the stored files of a dataset, in the order in which they were written."""
    return list(store.list(f"histories/{dataset}/"))


def store_histories(store: Store, dataset: str) -> tuple[str, DatasetRef]:
    """Store the histories of the newest version of a dataset, unless that is done.

    Returns:
        The key of the file, and the version.

    Raises:
        NotFoundError: The dataset has no version.
        AlreadyExistsError: Other runs were faster several times.
    """
    for _ in range(ATTEMPTS):
        ref, keys = _newest(store, dataset), history_keys(store, dataset)
        if keys and _version_in(keys[-1]) == ref.version:
            for former in keys[:-1]:
                store.delete(former)
            return keys[-1], ref
        number = 1 + (int(keys[-1].rpartition("/")[2].partition("-")[0]) if keys else 0)
        with suppress(AlreadyExistsError), tempfile.TemporaryDirectory(prefix="recsys-histories-") as folder:
            path = Path(folder) / "histories"
            _write(store, ref, path)
            key = f"histories/{dataset}/{number:08d}-{ref.version}-{sha256_of(path)}"
            store.put_new(key, path)
        # A removal may have been recorded meanwhile: then the next attempt replaces what was just written.
    raise AlreadyExistsError(
        f"Other runs changed the dataset {dataset} {ATTEMPTS} times while its histories were written. Try again."
    )


def remember_histories(store: Store, dataset: str) -> None:
    """Store the histories of a dataset. If that fails, log a warning: serving then knows the users less well, but works."""
    try:
        store_histories(store, dataset)
    except Exception:
        LOG.warning("The histories of %s could not be stored; `recsys data histories` tries it again.", dataset, exc_info=True)


def renew_histories(store: Store, dataset: str, *, needed: bool) -> None:
    """Replace stored histories that are not of the dataset's newest version. The former ones are gone first.

    If none is stored, they are made only if they are `needed`.
    """
    keys = history_keys(store, dataset)
    if keys or needed:
        version = _newest(store, dataset).version
        for key in keys:
            if _version_in(key) != version:
                store.delete(key)
        remember_histories(store, dataset)


def forget_histories(store: Store, dataset: str) -> None:
    """Delete the stored files of a dataset."""
    for key in history_keys(store, dataset):
        store.delete(key)


def _newest(store: Store, dataset: str) -> DatasetRef:
    LandingLog(store, dataset).head()  # it completes the version of a removal whose run was killed
    found = [ref for ref in list_datasets(store) if ref.name == dataset]
    if not found:
        raise NotFoundError(
            f"The store {store.uri('')} has no version of the dataset {dataset}, so its users' histories are unknown. "
            "Create one with `recsys etl`, or name another data.dataset."
        )
    return found[-1]


def _version_in(key: str) -> str:
    return key.rpartition("/")[2].partition("-")[2].rpartition("-")[0]


def _write(store: Store, ref: DatasetRef, path: Path) -> None:
    events = read_table(store, ref, "interactions", [Columns.USER, Columns.ITEM, Columns.TIME, Columns.ROW])
    events = events.sort_values(Columns.ROW, kind="stable")
    users, items, times = (events[name].to_numpy(np.int64) for name in (Columns.USER, Columns.ITEM, Columns.TIME))
    texts = external_ids(store, ref, Columns.USER)
    named = None if texts is None else texts.reindex(np.unique(users)).fillna("").tolist()
    write_histories(path, users, items, times, most=StateSettings().events, texts=named)
