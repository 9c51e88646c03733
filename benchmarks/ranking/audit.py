"""How much of SS4Rec's score comes from the protocol: `python -m benchmarks.ranking.audit --source ml-1m --data ml-1m.zip`.

Trains the same settings under each order of events. Each model ranks the test requests with and without seen items, at the
target's time and at the time of the last event, with the ties in the histories unchanged and redrawn. `recsys model audit
--retrain` does the same for a stored version. One seed is enough: the orders differ by far more than the seeds do.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import torch

from benchmarks.data import load_events
from benchmarks.report import hardware, write_result
from configs.loading import load_settings
from configs.settings import RetrainSettings, SourceName
from infra.pages import markdown_table
from models.recommender import Recommender
from models.ss4rec import SS4Rec
from tasks.evaluation.protocol_audit import AuditRow, retrained


def main() -> None:
    """Train under each order, write all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release; downloaded if left out")
    parser.add_argument("--config", help="settings file or name; the defaults are ml-100k's")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="key=value, may be repeated")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/audit.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = load_settings(RetrainSettings, given.config, given.overrides)
    events = load_events(given.source, given.data)

    def fresh() -> Recommender:
        return SS4Rec(settings.models.ss4rec)

    started = time.monotonic()
    rows = retrained(
        fresh,
        events,
        settings.evaluation,
        draws=given.draws,
        seed=given.seed,
        report=lambda line: print(f"{time.monotonic() - started:.0f} s: {line}", flush=True),
    )
    result = {
        "data": given.source,
        "model": "ss4rec",
        "settings": settings.models.ss4rec.model_dump(mode="json"),
        "seed": given.seed,
        "draws": given.draws,
        "hardware": hardware(),
        "seconds": round(time.monotonic() - started, 1),
        "rows": [asdict(row) for row in rows],
    }
    write_result(given.out, result)
    print(render(rows))


def render(rows: list[AuditRow]) -> str:
    """The rows as a Markdown table: HR@10 / NDCG@10 for each order and request time, unmasked and masked."""
    head = ["order of events", "asked at", "ties in histories", "unmasked HR@10 / NDCG@10", "masked HR@10 / NDCG@10"]
    lines = []
    cells = {(row.order, row.request_time, row.ties, row.seen): row for row in rows}
    for order, request_time, ties in dict.fromkeys((row.order, row.request_time, row.ties) for row in rows):
        pair = [cells[order, request_time, ties, seen].metrics for seen in ("unmasked", "masked")]
        shown = [f"{found['hr@10']:.4f} / {found['ndcg@10']:.4f}" for found in pair]
        lines.append([order, request_time, ties, *shown])
    return markdown_table(head, lines)


if __name__ == "__main__":
    main()
