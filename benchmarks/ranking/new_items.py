"""Items on their first day: `python -m benchmarks.ranking.new_items --source ml-100k --preset best`.

A drawn share of the items is hidden: their events are taken out of the train part and of all histories, so that no model has seen any of
them, while their descriptions stay. They are ranked together with all other items. The test requests whose target is hidden form the
slice `new items`. SS4Rec is trained with and without the attributes of items, with the same seeds; popularity is the reference.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from benchmarks.data import load_tables, origin
from benchmarks.report import hardware, skip, write_result
from configs.loading import load_settings
from configs.settings import EvaluationSettings, PopularitySettings, ProtocolId, RetrainSettings, SourceName, SS4RecSettings
from infra.pages import markdown_table
from models.evaluation import Split, metrics, paired_test, per_request, rank_requests, split
from models.popularity import Popularity
from models.recommender import IntArray, Recommender, Requests
from models.ss4rec import SS4Rec

NAMES = {"popularity": "popularity", "plain": "SS4Rec", "attributes": "SS4Rec with `item_attributes`"}
RESAMPLES = 10_000


def main() -> None:
    """Train each model with each seed, write the JSON after each and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release; downloaded if left out")
    parser.add_argument("--protocol", default="loo-exact", choices=get_args(ProtocolId))
    parser.add_argument("--preset", default=None, help="settings of SS4Rec; its defaults if left out")
    parser.add_argument("--hidden", type=float, default=0.1, help="share of the items that are new")
    parser.add_argument("--identity-dropout", type=float, default=SS4RecSettings().identity_dropout)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/new_items.json"))
    given = parser.parse_args()
    tables = load_tables(given.source, given.data)
    events = tables.interactions.assign(row=np.arange(len(tables.interactions)))
    items = _described(tables.items)
    parts, hidden = without_some(split(events, EvaluationSettings(protocol=given.protocol)), given.hidden)
    new = np.isin(parts.test.targets, hidden)
    base = load_settings(RetrainSettings, given.preset).models.ss4rec if given.preset else SS4RecSettings()
    result: dict[str, Any] = {
        **origin(given.source, given.data),
        "protocol": given.protocol,
        "preset": given.preset,
        "identity_dropout": given.identity_dropout,
        "items": len(parts.catalogue),
        "new_items": len(hidden),
        "requests": {"new items": int(new.sum()), "others": int((~new).sum())},
        "hardware": hardware(),
        "rows": [],
    }
    reference: IntArray | None = None
    for seed in given.seeds:
        for name in NAMES:
            if name == "popularity" and reference is not None:
                continue
            started = time.perf_counter()
            switches = {"item_attributes": name == "attributes", "identity_dropout": given.identity_dropout}
            model: Recommender = (
                Popularity(PopularitySettings()) if name == "popularity" else SS4Rec(base.model_copy(update=switches))
            )
            model.describe_items(items)
            model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=True)
            ranking = rank_requests(model, parts.test, parts.catalogue, mask_seen=True, batch_size=256)
            if reference is None:
                reference = ranking.ranks
            tested = paired_test(
                per_request(ranking.ranks[new], "hr", 10), per_request(reference[new], "hr", 10), resamples=RESAMPLES, seed=0
            )
            result["rows"].append(
                {
                    "model": name,
                    "seed": seed,
                    "new items": metrics(ranking.ranks[new], (10,)),
                    "others": metrics(ranking.ranks[~new], (10,)),
                    "share of new items in the lists": float(ranking.recommended[np.isin(parts.catalogue, hidden)].sum())
                    / max(float(ranking.recommended.sum()), 1.0),
                    "p_value": tested.p_value,
                    "seconds": time.perf_counter() - started,
                }
            )
            write_result(given.out, result)
            print(result["rows"][-1], flush=True)
    print(render(result))


def _described(items: pd.DataFrame | None) -> pd.DataFrame:
    if items is None:
        skip("the release does not describe its items.")
    year = pd.to_numeric(items["year"], errors="coerce").astype("Int64")
    return items[["item_id", "title", "genres"]].assign(item_id=items["item_id"].astype(np.int64), year=year)


def without_some(parts: Split, share: float) -> tuple[Split, IntArray]:
    """Return the split without the events of a drawn share of its items, which stay in the catalogue, and those items."""
    hidden = np.random.default_rng(0).choice(parts.catalogue, int(share * len(parts.catalogue)), replace=False)
    kept = ~np.isin(parts.train.item_ids, hidden)
    rows = np.bincount(parts.train.row_of_event[kept], minlength=len(parts.train))
    train = replace(
        parts.train,
        offsets=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        item_ids=parts.train.item_ids[kept],
        timestamps=parts.train.timestamps[kept],
        ratings=None if parts.train.ratings is None else parts.train.ratings[kept],
    )
    valid = _history_without(parts.valid.take(np.flatnonzero(~np.isin(parts.valid.targets, hidden))), hidden)
    return replace(parts, train=train, valid=valid, test=_history_without(parts.test, hidden)), np.sort(hidden)


def _history_without(requests: Requests, hidden: IntArray) -> Requests:
    kept = ~np.isin(requests.item_ids, hidden)
    rows = np.bincount(requests.row_of_event[kept], minlength=len(requests))
    return replace(
        requests,
        offsets=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        item_ids=requests.item_ids[kept],
        timestamps=requests.timestamps[kept],
        ratings=None if requests.ratings is None else requests.ratings[kept],
    )


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table: the mean over the seeds."""
    rows = []
    for name in NAMES:
        runs = [row for row in result["rows"] if row["model"] == name]
        if runs:
            cells = [
                np.mean([run[part][metric] for run in runs])
                for part in ("new items", "others")
                for metric in ("hr@10", "ndcg@10")
            ]
            share = np.mean([run["share of new items in the lists"] for run in runs])
            p = "" if name == "popularity" else f"{max(run['p_value'] for run in runs):.2g}"
            rows.append([NAMES[name], str(len(runs)), *(f"{cell:.4f}" for cell in cells), f"{share:.1%}", p])
    heads = [
        "model",
        "seeds",
        "new: HR@10",
        "new: NDCG@10",
        "others: HR@10",
        "others: NDCG@10",
        "new items in lists",
        "p against popularity",
    ]
    return markdown_table(heads, rows)


if __name__ == "__main__":
    main()
