"""RecBole (1.2.1), isolated in one module: its NeuMF, its split and its evaluator.

Only `network` and `ss4rec` in this package also import RecBole, after a call to `prepare`.

RecBole reads global state, writes folders into the working directory and needs three names that numpy 2 removed. This module
contains all of these side effects. Importing RecBole takes seconds, so the functions import it when they are called.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from configs.settings import NCFSettings
from models.recommender import IntArray

__all__ = ["neumf", "recbole_config", "recbole_list_metrics", "recbole_metrics", "recbole_split"]

USER, ITEM, TIME = "user_id", "item_id", "timestamp"


def neumf(n_users: int, n_items: int, settings: NCFSettings) -> nn.Module:
    """Return RecBole's untrained NeuMF for users 1..n_users and items 1..n_items. Row 0 of its embeddings is free."""
    prepare()
    from recbole.model.general_recommender.neumf import NeuMF

    config = {
        "USER_ID_FIELD": USER,
        "ITEM_ID_FIELD": ITEM,
        "NEG_PREFIX": "neg_",
        "LABEL_FIELD": "label",
        "device": torch.device("cpu"),
        "mf_embedding_size": settings.mf_width,
        "mlp_embedding_size": settings.mlp_width,
        "mlp_hidden_size": list(settings.mlp_hidden),
        "dropout_prob": settings.dropout,
        "mf_train": True,
        "mlp_train": True,
        "use_pretrain": False,
        "mf_pretrain_path": None,
        "mlp_pretrain_path": None,
    }
    sizes = {USER: n_users + 1, ITEM: n_items + 1}
    network: nn.Module = NeuMF(config, SimpleNamespace(num=sizes.__getitem__))
    return network


def recbole_split(interactions: pd.DataFrame, k_core: int, *, sequential: bool, max_length: int = 50) -> dict[str, pd.DataFrame]:
    """Return RecBole's own leave-one-out parts of `interactions`.

    Changes the working directory of the process while it runs.

    Args:
        interactions: The columns user_id, item_id and timestamp, in source order.
        k_core: Least number of events per user and item.
        sequential: Whether to return the augmented rows for sequential models. Their column `history` has the last `max_length`
            raw ids before each target.
        max_length: See `sequential`.

    Returns:
        `train`, `valid` and `test` with raw user_id and item_id, in RecBole's order.
    """
    settings = {
        "user_inter_num_interval": f"[{k_core},inf)",
        "item_inter_num_interval": f"[{k_core},inf)",
        "MAX_ITEM_LIST_LENGTH": max_length,
    }
    with recbole_config(interactions, "SASRec" if sequential else "Pop", settings) as config:
        from recbole.data import create_dataset

        dataset = create_dataset(config)
        parts = dataset.build()
        return {name: _part(dataset, part, sequential) for name, part in zip(("train", "valid", "test"), parts, strict=True)}


def recbole_metrics(scores: torch.Tensor, targets: IntArray, ks: tuple[int, ...]) -> dict[str, float]:
    """Compute HR, NDCG and MRR with RecBole's own Collector and metric classes, before their rounding.

    `scores` (R, n_items) are already masked if the protocol masks. `targets` (R,) are columns.
    """
    prepare()
    from recbole.evaluator import metrics as recbole
    from recbole.evaluator.collector import Collector

    config = _Config(
        metrics=["Hit", "NDCG", "MRR"],
        topk=list(ks),
        eval_args={"mode": "full"},
        device=torch.device("cpu"),
        metric_decimal_place=17,
    )
    collector = Collector(config)
    rows = torch.arange(len(scores))
    for start in range(0, len(scores), 256):
        batch = slice(start, start + 256)
        collector.eval_batch_collect(scores[batch], None, rows[: len(scores[batch])], torch.from_numpy(targets[batch]))
    found = collector.get_data_struct()
    result: dict[str, float] = {}
    for name, metric in (("hr", recbole.Hit), ("ndcg", recbole.NDCG), ("mrr", recbole.MRR)):
        for key, value in metric(config).calculate_metric(found).items():
            result[f"{name}@{key.split('@')[1]}"] = float(value)
    return result


def recbole_list_metrics(scores: torch.Tensor, events: IntArray, k: int, tail_ratio: float) -> dict[str, float]:
    """Compute ItemCoverage, GiniIndex, AveragePopularity and TailPercentage at `k` with RecBole's own classes.

    `scores` (R, n_items) are already masked. `events` (n_items,) are the counts in the train part. As in RecBole, the catalogue
    has a padding item, number 0, and items without events are not in its counts.
    """
    prepare()
    from recbole.evaluator import metrics as recbole
    from recbole.evaluator.collector import Collector

    classes = [recbole.ItemCoverage, recbole.GiniIndex, recbole.AveragePopularity, recbole.TailPercentage]
    config = _Config(
        metrics=[cls.__name__ for cls in classes],
        topk=[k],
        eval_args={"mode": "full"},
        device=torch.device("cpu"),
        metric_decimal_place=17,
        tail_ratio=tail_ratio,
        ITEM_ID_FIELD=ITEM,
    )
    counts = Counter({item + 1: int(count) for item, count in enumerate(events) if count})
    dataset = SimpleNamespace(num={ITEM: len(events) + 1}.__getitem__, item_counter=counts)
    collector = Collector(config)
    collector.data_collect(SimpleNamespace(dataset=dataset))
    padded = torch.nn.functional.pad(scores, (1, 0), value=-torch.inf)
    rows = torch.arange(len(scores))
    collector.eval_batch_collect(padded, None, rows, rows)  # none of these metrics uses the target
    found = {name: collector.data_struct.get(name) for name in ("rec.items", "data.num_items", "data.count_items")}
    return {cls.__name__: float(cls(config).calculate_metric(_Found(found))[f"{cls.__name__.lower()}@{k}"]) for cls in classes}


@contextlib.contextmanager
def recbole_config(
    interactions: pd.DataFrame, model: str | type[nn.Module], settings: dict[str, Any], catalogue: IntArray | None = None
) -> Iterator[Any]:
    """Provide RecBole's Config for `model` on `interactions`.

    The split is leave-one-out by time with full ranking. While the context is open, a temporary folder takes all files that RecBole
    writes in this thread.

    Args:
        interactions: The columns user_id, item_id and timestamp, in source order.
        model: The model's name or class.
        settings: Further RecBole settings, which override the ones set here.
        catalogue: Items that RecBole must know even if no event has them.
    """
    prepare()
    with tempfile.TemporaryDirectory(prefix="recsys-recbole-") as folder, _logging_into(folder):
        place = Path(folder) / "events"
        place.mkdir()
        frame = interactions[["user_id", "item_id", "timestamp"]]
        frame.to_csv(place / "events.inter", sep="\t", index=False, header=[f"{USER}:token", f"{ITEM}:token", f"{TIME}:float"])
        load = {"inter": [USER, ITEM, TIME]}
        if catalogue is not None:
            pd.DataFrame({f"{ITEM}:token": catalogue}).to_csv(place / "events.item", sep="\t", index=False)
            load["item"] = [ITEM]
        given = {
            "data_path": folder,
            "checkpoint_dir": f"{folder}/saved",
            "load_col": load,
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
            "train_neg_sample_args": None,
            "normalize_all": False,
            "gpu_id": "",
            "state": "ERROR",
            "show_progress": False,
        }
        yield _config(model, given | settings)


def _config(model: str | type[nn.Module], settings: dict[str, Any]) -> Any:
    from recbole.config import Config

    class OwnConfig(Config):  # type: ignore[misc]
        """RecBole's Config without its effects on the process."""

        def _load_cmd_line(self) -> dict[str, Any]:
            """Take no setting from the command line, which is ours."""
            return {}

        def _init_device(self) -> None:
            """Choose the device. RecBole would also hide the other GPUs from the process."""
            final = self.final_config_dict
            on_gpu = str(final["gpu_id"]) != "" and torch.cuda.is_available()  # a number, or several
            final |= {"single_spec": True, "local_rank": 0, "device": torch.device("cuda" if on_gpu else "cpu")}

    config = OwnConfig(model=model, dataset="events", config_dict=settings)
    config.__class__ = Config  # which can be pickled, for checkpoints
    return config


class _Logs:
    """What RecBole's trainers log, in a folder."""

    def __init__(self, folder: str) -> None:
        self._folder, self._writers = folder, contextlib.ExitStack()
        self.close = self._writers.close

    def open(self) -> Any:
        from recbole.utils.utils import SummaryWriter

        return self._writers.enter_context(SummaryWriter(f"{self._folder}/log_tensorboard"))


_logs: ContextVar[_Logs | None] = ContextVar("_logs", default=None)


@contextlib.contextmanager
def _logging_into(folder: str) -> Iterator[None]:
    """Let the trainers that this thread makes log into a folder. RecBole has no setting for it."""
    for name in ("recbole.utils", "recbole.trainer.trainer"):  # the second takes it from the first when it is imported
        if name in sys.modules:
            sys.modules[name].get_tensorboard = _tensorboard  # type: ignore[attr-defined]
    logs = _Logs(folder)
    before = _logs.set(logs)
    try:
        yield
    finally:
        _logs.reset(before)
        logs.close()


def _tensorboard(logger: logging.Logger) -> Any:
    from recbole.utils.utils import get_tensorboard

    logs = _logs.get()
    return get_tensorboard(logger) if logs is None else logs.open()


class _Found(dict[str, Any]):
    """RecBole's DataStruct without its copy to the CPU, which fails for values that are not tensors."""


class _Config(dict[str, Any]):
    """A configuration that returns None for a missing setting, as RecBole expects."""

    def __missing__(self, key: str) -> None:
        return None


def _part(dataset: Any, part: Any, sequential: bool) -> pd.DataFrame:
    def raw(field: str, values: torch.Tensor) -> np.ndarray[Any, Any]:
        return dataset.id2token(field, values.numpy()).astype(np.int64)  # type: ignore[no-any-return]

    feature = part.inter_feat
    frame = pd.DataFrame({"user_id": raw(USER, feature[USER]), "item_id": raw(ITEM, feature[ITEM])})
    if sequential:
        lengths = feature["item_length"].tolist()
        frame["history"] = [raw(ITEM, row[:n]).tolist() for row, n in zip(feature["item_id_list"], lengths, strict=True)]
    return frame


def prepare() -> None:
    """Make RecBole work with numpy 2 and scipy, and undo a side effect of importing its models.

    RecBole's configurator needs three aliases that numpy 2 removed, and its graph models a method that scipy 1.13 removed. One of its models (SINE) turns on autograd's anomaly
    detection for the whole process, which would slow down all later training.
    """
    for name, kind in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
        if not hasattr(np, name):
            setattr(np, name, kind)
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = _update
    anomalies = torch.is_anomaly_enabled()
    import recbole.model.sequential_recommender  # noqa: F401

    torch.autograd.set_detect_anomaly(anomalies)


def _update(matrix: Any, entries: dict[tuple[int, int], float]) -> None:
    """Set entries of scipy's dictionary of keys, without looking at each."""
    matrix._dict.update(entries)
