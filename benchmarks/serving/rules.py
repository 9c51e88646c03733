"""How long a ranking with filters and rules takes: `python -m benchmarks.serving.rules`.

The catalogue has the size of MovieLens 25M, with random scores, genres, years and popularity. The history has 150 movies. Each
kind of request is compared with two alternatives, with the same filters and exclusions but without boosts and diversity: numpy's
`argpartition` over the allowed items, and a walk down the entire sorted catalogue. All are timed in alternation, and the median of
many runs is reported for each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import hardware, write_result
from configs.serving import RuleFile
from infra.pages import markdown_table
from serving.catalogue import Catalogue
from serving.reranking import RankRequest, Rules

GENRES = tuple(f"genre {number}" for number in range(19))
RULES: dict[str, Any] = {
    "min_popularity": 3,
    "rules": [
        {"name": "excluded", "action": "exclude", "where": {"genres": ["genre 3"]}},
        {"name": "boosted", "action": "boost", "where": {"years": [1990, 2020]}, "by": 0.5},
        {"name": "pinned", "action": "pin", "items": [5], "position": 2},
    ],
}
FILES = {"no rules": {}, "4 rules": RULES, "4 rules and diversity": {**RULES, "diversity": {"weight": 0.3, "pool": 100}}}


def main() -> None:
    """Measure, write the result and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=62_423)
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rules.json"))
    given = parser.parse_args()
    load = os.getloadavg()[0]
    rng = np.random.default_rng(given.seed)
    catalogue = _catalogue(given.items, rng)
    scores, history = rng.normal(size=given.items).astype(np.float32), rng.integers(0, given.items, 150)
    requests = {
        "first 10": RankRequest(10, history),
        "first 10 of two genres, 1980 to 2000": RankRequest(10, history, GENRES[1:3], (1980, 2000)),
        "first 100": RankRequest(100, history),
    }
    by_columns = partial(partitioned, genres=np.ascontiguousarray(catalogue.genre_bits.T))  # so that numpy reads them fast
    rows = []
    for rules, content in FILES.items():
        made = Rules(RuleFile.model_validate(content))
        for asked, request in requests.items():
            ours = lambda made=made, request=request: made.rank(scores, catalogue, request)  # noqa: E731
            others = [
                lambda made=made, request=request, way=way: way(made.file, scores, catalogue, request)
                for way in (by_columns, sorted_whole)
            ]
            rows.append({"rules": rules, "request": asked, **_timed([ours, *others], given.times)})
    result = {"items": given.items, "times": given.times, "seed": given.seed, "rows": rows}
    write_result(given.out, result | {"hardware": hardware() | {"load_1_min": round(load, 2)}})
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    head = [f"{result['items']:,} items", "median", "99 % within", "argpartition", "sorting all", "argpartition / ours"]
    rows = []
    for row in result["rows"]:
        times = [f"{row[key]:,.0f} µs" for key in ("median_us", "p99_us", "argpartition_us", "sorting_us")]
        rows.append([f"{row['request']}, {row['rules']}", *times, f"{row['argpartition_us'] / row['median_us']:.1f}"])
    return markdown_table(head, rows)


def partitioned(
    file: RuleFile, scores: npt.NDArray[np.float32], catalogue: Catalogue, request: RankRequest, genres: npt.NDArray[np.bool_]
) -> list[int]:
    """Rank with numpy: select the best of the allowed items, then sort only these. `genres` is (genres, items)."""
    places = {genre: place for place, genre in enumerate(catalogue.genres)}
    excluded = {genre for rule in file.rules if rule.action == "exclude" for genre in rule.where.genres or ()}
    allowed = np.ones(len(scores), dtype=bool)
    if file.min_popularity:
        allowed &= catalogue.popularity >= file.min_popularity
    if excluded:
        allowed &= ~np.logical_or.reduce([genres[places[genre]] for genre in excluded])
    if request.genres:
        allowed &= np.logical_or.reduce([genres[places[genre]] for genre in request.genres])
    first, last = request.years or (None, None)
    if first is not None and last is not None:
        allowed &= (catalogue.years >= first) & (catalogue.years <= last)
    allowed[request.history] = False
    left = np.flatnonzero(allowed)
    kept = scores[left]
    best = np.argpartition(kept, -request.k)[-request.k :] if len(left) > request.k else np.arange(len(left))
    found: list[int] = left[best[np.argsort(-kept[best])]].tolist()
    return found


def sorted_whole(file: RuleFile, scores: npt.NDArray[np.float32], catalogue: Catalogue, request: RankRequest) -> list[int]:
    """Rank the plain way: sort everything, walk down, and skip the items that filters and exclusions forbid."""
    closed = set(request.history.tolist())
    excluded = {genre for rule in file.rules if rule.action == "exclude" for genre in rule.where.genres or ()}
    places = {genre: place for place, genre in enumerate(catalogue.genres)}
    wanted, banned = [places[g] for g in request.genres], [places[g] for g in excluded]
    first, last = request.years or (None, None)
    found: list[int] = []
    for item in map(int, np.argsort(-scores)):  # converted lazily: only the first few are needed
        if item in closed or catalogue.popularity[item] < file.min_popularity or catalogue.genre_bits[item, banned].any():
            continue
        if wanted and not catalogue.genre_bits[item, wanted].any():
            continue
        if first is not None and last is not None and not first <= catalogue.years[item] <= last:
            continue
        found.append(item)
        if len(found) == request.k:
            break
    return found


def _catalogue(items: int, rng: np.random.Generator) -> Catalogue:
    return Catalogue(
        item_ids=np.arange(1, items + 1),
        titles=[""] * items,
        years=rng.integers(1900, 2020, items),
        genre_bits=rng.random((items, len(GENRES))) < 0.12,
        genres=GENRES,
        popularity=rng.zipf(1.3, items).astype(np.float64).clip(max=1e5),
    )


def _timed(ways: list[Callable[[], object]], times: int) -> dict[str, float]:
    spent: list[list[float]] = [[] for _ in ways]
    ways[0]()
    for _ in range(times):
        for call, found in zip(ways, spent, strict=True):
            began = time.perf_counter()
            call()
            found.append((time.perf_counter() - began) * 1e6)
    median, partition, sorting = (statistics.median(found) for found in spent)
    p99 = float(np.quantile(spent[0], 0.99))
    return {"median_us": median, "p99_us": p99, "argpartition_us": partition, "sorting_us": sorting}


if __name__ == "__main__":
    main()
