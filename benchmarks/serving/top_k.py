"""How long the best 10 of two million items take with the index and with a scan of all: `python -m benchmarks.serving.top_k`.

No dataset of the benchmarks has so many items. SS4Rec is trained on MovieLens for a few epochs, and its item vectors are multiplied by a
smoothed bootstrap (Silverman and Young, Biometrika 1987): each item has the vector and the genres of a film, drawn at random, shrunk
towards the mean, plus normal noise with the covariance of all films. The mean and the covariance stay those of the trained vectors. The
width of the noise follows Silverman's rule. The users are states of the trained model, each after some of a person's events. Two further
kinds of vectors are harder: noise alone, without the films' clusters, and normal vectors whose directions are all equally likely.

A user has seen 500 items, half of them among the 1,000 with the highest scores. Each request is ranked by `Rules.rank` on one core, with the
index and with the scan, and both must give the same items and scores in the same order. The times are those of the thread, so other work on
the machine counts little.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data import load_split, load_tables, origin
from benchmarks.report import hardware, write_result
from configs.settings import SS4RecSettings
from infra.pages import markdown_table
from models.pruning import ItemIndex, UserScores
from models.recommender import IntArray, Requests, Sequences
from models.ss4rec import SS4Rec
from models.ss4rec.kernels import Floats, products
from models.top_k import best
from serving.catalogue import Catalogue
from serving.reranking import RankRequest, Rules

SEEN, FAVOURITES = 500, 1000
K, BAR_MS = 10, 10.0
CHUNK = 100_000
OTHERS = 10  # a row beside the first has so many times fewer requests


@dataclass(frozen=True)
class Trained:
    """What a trained model gives: films with their genres, and states of users."""

    films: Floats  # (films, H)
    genres: list[list[str]]
    states: Floats  # (R, H)


@dataclass(frozen=True)
class Items:
    """The items of a row of the result."""

    vectors: Floats  # (n, H)
    catalogue: Catalogue
    states: Floats  # (R, H)


def main() -> None:
    """Measure, write the result and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--requests", type=int, default=10_000, help="of the first row; the others have a tenth")
    parser.add_argument("--source", default="ml-100k", help="MovieLens release that the model is trained on")
    parser.add_argument("--data", type=Path, help="the release's zip")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/top_k.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)  # the search and the scan have one thread anyway
    trained, load = _trained(given), os.getloadavg()[0]
    genre = max({name for own in trained.genres for name in own}, key=lambda name: sum(name in own for own in trained.genres))
    rare = min({name for own in trained.genres for name in own}, key=lambda name: sum(name in own for own in trained.genres))
    rows: list[dict[str, Any]] = []
    few = max(given.requests // OTHERS, 1)
    asked_by_kind: dict[str, dict[tuple[str, ...], int]] = {
        "as trained": {(genre,): given.requests, (): few, (rare,): few},
        "noise alone": {(genre,): few},
        "equally likely directions": {(genre,): few},
    }
    for kind, asked in asked_by_kind.items():
        items = _items(trained, kind, given.items, given.seed)
        began = time.thread_time()
        index = ItemIndex.of(items.vectors)
        built = time.thread_time() - began
        if index is None:
            raise SystemExit("There is no index of these vectors.")
        for genres, count in asked.items():
            found = _measured(items, index, genres, count, given.seed)
            rows.append({"vectors": kind, "genres": list(genres), "built_s": built, "index_bytes": index.nbytes, **found})
            print(rows[-1], flush=True)
    result = {"items": given.items, "width": trained.films.shape[1], "films": len(trained.films), "epochs": given.epochs}
    result |= {**origin(given.source, given.data), "seed": given.seed, "rows": rows}
    write_result(given.out, result | {"hardware": hardware() | {"threads": 1, "load_1_min": round(load, 2)}})
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    head = [f"{result['items']:,} items, {K} of them, {SEEN} seen", "genre", "requests", "p50 / p99, ms", "a scan's, ms"]
    rows: list[list[str]] = []
    for row in result["rows"]:
        p50, p99 = row["p50_ms"], row["p99_ms"]
        bar = "" if rows else f" (bar p99 < {BAR_MS:g}: {'met' if p99 < BAR_MS else '**missed**'})"
        rows.append(
            [
                row["vectors"],
                f"{', '.join(row['genres']) or 'any'}, {row['share']:.1%} of all",
                f"{row['requests']:,}",
                f"{p50:.1f} / {p99:.1f}{bar}",
                f"{row['scan_p50_ms']:.1f} / {row['scan_p99_ms']:.1f}",
                f"{row['scan_p50_ms'] / p50:.1f}",
                f"{row['requests'] - row['equal']}",
                f"{row['scans']:.1%}",
                f"{row['built_s']:.0f} s, {row['index_bytes'] / 1e6:.0f} MB",
            ]
        )
    return markdown_table([*head, "times as fast", "other answers", "index given up", "index"], rows)


def _trained(given: argparse.Namespace) -> Trained:
    parts = load_split(given.source, given.data, "loo-exact")
    model = SS4Rec(SS4RecSettings(device="cpu", max_epochs=given.epochs))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=given.seed, mask_seen=True)
    films = load_tables(given.source, given.data).items
    if films is None:
        raise SystemExit(f"{given.source} has no genres.")
    listed = dict(zip(films["item_id"].tolist(), films["genres"].fillna("").tolist(), strict=True))
    genres = [[name for name in str(listed.get(item, "")).split("|") if name] for item in parts.catalogue.tolist()]
    states = model.user_vectors(_asked(parts.train, given.requests, given.seed)).numpy()
    return Trained(model.item_vectors().numpy(), genres, np.ascontiguousarray(states))


def _asked(train: Sequences, count: int, seed: int) -> Requests:
    """Return requests of random people, each after some of the person's events, at least one."""
    rng = np.random.default_rng(seed)
    people = rng.integers(0, len(train), count)
    lengths = rng.integers(1, train.lengths[people] + 1)
    events = [
        np.arange(train.offsets[person], train.offsets[person] + length) for person, length in zip(people, lengths, strict=True)
    ]
    places = np.concatenate(events)
    return Requests(
        user_ids=train.user_ids[people],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_ids=train.item_ids[places],
        timestamps=train.timestamps[places],
        request_times=np.array([train.timestamps[own[-1]] + 60 for own in events], np.int64),
        targets=np.full(count, train.item_ids[0]),
    )


def _items(trained: Trained, kind: str, n: int, seed: int) -> Items:
    rng = np.random.default_rng(seed)
    width, of = trained.films.shape[1], rng.integers(0, len(trained.films), n)
    vectors, states = _aligned(n, width), trained.states
    noise = 1.0
    if kind == "as trained":
        bandwidth = len(trained.films) ** (-1 / (width + 4))
        noise = bandwidth**2 / (1 + bandwidth**2)
    mean = trained.films.mean(axis=0)
    values, directions = np.linalg.eigh(np.cov(trained.films.T))
    shape = (directions * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)
    if kind == "equally likely directions":
        shape, mean = np.eye(width, dtype=np.float32), np.zeros(width, np.float32)
        states = rng.standard_normal(states.shape, dtype=np.float32)
    for begin in range(0, n, CHUNK):
        films = trained.films[of[begin : begin + CHUNK]]
        drawn = rng.standard_normal(films.shape, dtype=np.float32) @ shape
        vectors[begin : begin + CHUNK] = (
            mean + np.float32(np.sqrt(1 - noise)) * (films - mean) + np.float32(np.sqrt(noise)) * drawn
        )
    names = tuple(sorted({name for own in trained.genres for name in own}))
    bits = np.array([[name in own for name in names] for own in trained.genres], bool)
    catalogue = Catalogue(
        item_ids=np.arange(1, n + 1),
        titles=[""] * n,
        years=np.zeros(n, np.int64),
        genre_bits=bits[of],
        genres=names,
        popularity=np.ones(n),
    )
    return Items(vectors, catalogue, states)


def _measured(items: Items, index: ItemIndex, genres: tuple[str, ...], count: int, seed: int) -> dict[str, Any]:
    """Rank `count` requests in both ways, and compare them."""
    rng, rules, scans = np.random.default_rng(seed), Rules(), [0]

    def scores_of(user: Floats, chosen: IntArray | None) -> Floats:
        scans[0] += chosen is None
        vectors = items.vectors if chosen is None else items.vectors[chosen]
        found: Floats = np.empty(len(vectors), np.float32)
        products(vectors, user[None], found[None])
        return found

    def requests() -> Iterator[tuple[Floats, RankRequest]]:
        for user in items.states[rng.integers(0, len(items.states), count)] if count < len(items.states) else items.states:
            liked = rng.permutation(best(scores_of(user, None), min(FAVOURITES, len(items.vectors))))[: SEEN // 2]
            seen = np.concatenate([liked, rng.integers(0, len(items.vectors), SEEN - len(liked))])
            yield user, RankRequest(K, seen, genres)

    spent: list[float] = []
    scan_spent: list[float] = []
    equal = given_up = 0
    rules.warm(items.catalogue)
    for user, request in requests():
        scans[0] = 0
        found, took = _timed(lambda: rules.rank(UserScores(index, user, scores_of), items.catalogue, request))  # noqa: B023
        given_up += scans[0]
        plain, scan_took = _timed(lambda: rules.rank(scores_of(user, None), items.catalogue, request, scratch=True))  # noqa: B023
        equal += found.items.tolist() == plain.items.tolist() and found.scores.tobytes() == plain.scores.tobytes()
        spent.append(took)
        scan_spent.append(scan_took)
    skipped = min(2, count - 1)  # the first ones compile and read the index into the cache
    times, scan_times = np.array(spent[skipped:]) * 1e3, np.array(scan_spent[skipped:]) * 1e3
    having = items.catalogue.genre_bits[:, [items.catalogue.genres.index(name) for name in genres]].any(axis=1)
    return {
        "requests": count,
        "equal": equal,
        "share": float(having.mean()) if genres else 1.0,
        "p50_ms": float(np.quantile(times, 0.5)),
        "p99_ms": float(np.quantile(times, 0.99)),
        "scan_p50_ms": float(np.quantile(scan_times, 0.5)),
        "scan_p99_ms": float(np.quantile(scan_times, 0.99)),
        "scans": given_up / count,
    }


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.thread_time()
    found = call()
    return found, time.thread_time() - began


def _aligned(rows: int, width: int) -> Floats:
    """Return room (rows, width) that starts at a cache line, as the item vectors of a served version do."""
    room = np.empty(4 * rows * width + 64, np.uint8)
    begin = -room.ctypes.data % 64
    return room[begin : begin + 4 * rows * width].view(np.float32).reshape(rows, width)


if __name__ == "__main__":
    main()
