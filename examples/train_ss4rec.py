"""Train SS4Rec without Prefect, and print its NDCG@10 under a protocol.

    python examples/train_ss4rec.py                 # MovieLens 100K, which RecBole ships
    python examples/train_ss4rec.py ratings.csv 3   # your own events, at most three epochs

The file has the columns user_id, item_id and timestamp (UTC seconds).
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings, SS4RecSettings
from models.evaluation import metrics, rank_requests, split
from models.recommender import EpochReport
from models.ss4rec import SS4Rec


def events_of(path: str | None) -> pd.DataFrame:
    """Read the events of a file, or of MovieLens 100K."""
    if path is None:
        from importlib.util import find_spec
        from pathlib import Path

        found = find_spec("recbole")
        assert found is not None and found.origin is not None
        path = str(Path(found.origin).parent / "dataset_example" / "ml-100k" / "ml-100k.inter")
        frame = pd.read_csv(path, sep="\t").rename(columns=lambda name: name.partition(":")[0])
    else:
        frame = pd.read_csv(path)
    return frame[["user_id", "item_id", "timestamp"]].astype(np.int64).assign(row=np.arange(len(frame)))


def say(report: EpochReport) -> None:
    """Print an epoch."""
    print(f"epoch {report.epoch}: loss {report.loss:.3f}, valid NDCG@10 {report.valid['ndcg@10']:.4f}, {report.seconds:.1f} s")


def main(path: str | None = None, max_epochs: str = "14") -> None:
    """Train, and rank the test requests."""
    # Each user's last event is the test target, and the one before it chooses the epoch.
    protocol = EvaluationSettings(protocol="loo-exact")
    parts = split(events_of(path), protocol)
    model = SS4Rec(SS4RecSettings(max_epochs=int(max_epochs)))
    mask_seen = parts.masks_seen(model.sequential)
    model.fit(parts.train, parts.valid, parts.catalogue, seed=2025, mask_seen=mask_seen, on_epoch=say)
    ranking = rank_requests(model, parts.test, parts.catalogue, mask_seen=mask_seen, batch_size=256)
    print(f"{parts.id}: test NDCG@10 {metrics(ranking.ranks, (10,))['ndcg@10']:.4f} on {len(parts.test)} requests")


if __name__ == "__main__":
    main(*sys.argv[1:])
