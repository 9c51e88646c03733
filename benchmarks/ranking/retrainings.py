"""Retrain one recipe with many seeds, for the gate's benchmark: `python -m benchmarks.ranking.retrainings --data ml-100k.zip`.

Each run is what `make retrain` trains, with the default settings and another seed: SS4Rec and its baselines, which rank the test
requests. A run is written to `seed-<n>.npz` in the folder `--out`, and is not repeated if the file is there. At the end, all of
them are written to `seeds.npz`. `python -m benchmarks.pipeline.gate` reads that file.

Several trainings run side by side (`--jobs`), on the GPU if there is one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from configs.cores import available_cores
from configs.settings import SourceName

ALL = "seeds.npz"
KEPT_GAPS = 10  # enough for any rank up to 10


def main() -> None:
    """Train the missing seeds, then write all of them to one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release")
    parser.add_argument("--seeds", type=int, default=24, help="the seeds are 1 to this number")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side; each gets an equal share of the cores")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="key=value, may be repeated")
    parser.add_argument("--out", type=Path, default=Path(".recsys/retrainings"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    wanted = {seed: given.out / f"seed-{seed:03d}.npz" for seed in range(1, given.seeds + 1)}
    work = [(given.source, given.data, given.overrides, seed, path) for seed, path in wanted.items() if not path.exists()]
    os.environ["OMP_NUM_THREADS"] = str(max(1, available_cores() // given.jobs))
    with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
        for seed, ndcg, seconds in pool.imap_unordered(_train, work, chunksize=1):
            print(f"seed {seed}: NDCG@10 {ndcg:.4f}, {seconds:.0f} s", flush=True)
    runs = [dict(np.load(path)) for path in wanted.values()]
    _write(given.out / ALL, {name: np.stack([run[name] for run in runs]) for name in runs[0]})
    means = np.array([float(run["ndcg"].mean()) for run in runs])
    spread = (
        f", standard deviation {means.std(ddof=1):.4f} ({means.std(ddof=1) / means.mean():.1%} of it)" if len(runs) > 1 else ""
    )
    print(f"{given.out / ALL}: {len(runs)} seeds, mean NDCG@10 {means.mean():.4f}{spread}")


def _train(job: tuple[SourceName, Path | None, list[str], int, Path]) -> tuple[int, float, float]:
    """Train and rank with one seed, and write the arrays. Returns the seed, NDCG@10 of the test requests and the seconds."""
    source, data, overrides, seed, path = job
    import torch

    from benchmarks.data import load_events, load_users
    from configs.loading import load_settings
    from configs.settings import RetrainSettings
    from models.evaluation import list_metrics, per_request, rank_requests, slices, split
    from models.loading import make_recommender

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    settings = load_settings(RetrainSettings, None, [*overrides, f"seed={seed}"])
    parts = split(load_events(source, data), settings.evaluation)
    arrays: dict[str, Any] = {
        "seed": np.int64(seed),
        "user_ids": parts.test.user_ids,
        "targets": parts.test.targets,
        "request_times": parts.test.request_times,
        "lengths": parts.test.lengths,
        **{f"slice {name}": mask for name, mask in slices(parts.train, parts.test).items()},
    }
    kinds: tuple[str, ...] = ("popularity", "ncf", "ss4rec")
    for kind in kinds:
        model = make_recommender(kind, settings.models)
        model.describe_users(load_users(source, data))
        mask = parts.masks_seen(model.sequential)
        report = model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=mask)
        ranking = rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=settings.evaluation.batch_size)
        arrays["ranks" if kind == "ss4rec" else f"{kind} ranks"] = ranking.ranks
    valid = rank_requests(model, parts.valid, parts.catalogue, mask_seen=mask, batch_size=settings.evaluation.batch_size)
    beyond = list_metrics(ranking, parts.train)
    arrays |= {
        "ndcg": per_request(ranking.ranks, "ndcg", 10),
        "valid_user_ids": parts.valid.user_ids,
        "valid_targets": parts.valid.targets,
        "valid_ranks": valid.ranks,
        "gaps": _gaps(model, parts, mask),
        "coverage": np.float64(beyond["coverage@10"]),
        "gini": np.float64(beyond["gini@10"]),
        "epochs": np.int64(len(report.epochs)),
        "best_epoch": np.int64(report.best_epoch),
        "seconds": np.float64(report.seconds),
        "device": np.str_(report.device),
    }
    _write(path, arrays)
    return seed, float(arrays["ndcg"].mean()), report.seconds


def _gaps(model: Any, parts: Any, mask_seen: bool) -> npt.NDArray[np.float32]:
    """Return how much higher than the target's score the highest scores of other items are, (R, KEPT_GAPS), highest first.

    They give the target's rank for any amount that is added to its score. It is missed if its own score is -inf.
    """
    import torch

    columns = np.searchsorted(model.catalogue, parts.catalogue)
    found = np.empty((len(parts.test), KEPT_GAPS), dtype=np.float32)
    for start in range(0, len(parts.test), 256):
        rows = np.arange(start, min(start + 256, len(parts.test)))
        batch = parts.test.take(rows)
        scores = model.scores(batch).float().cpu()[:, torch.from_numpy(columns)].clone()
        if mask_seen:
            scores[batch.row_of_event, np.searchsorted(parts.catalogue, batch.item_ids)] = -torch.inf
        own = torch.from_numpy(np.searchsorted(parts.catalogue, batch.targets))[:, None]
        target = scores.gather(1, own)
        scores.scatter_(1, own, -torch.inf)
        found[rows] = (scores.topk(KEPT_GAPS, dim=1).values - target).numpy()
    return found


def _write(path: Path, arrays: dict[str, Any]) -> None:
    """Write the arrays so that `path` holds all of them or does not exist."""
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)
    partial.replace(path)


if __name__ == "__main__":
    main()
