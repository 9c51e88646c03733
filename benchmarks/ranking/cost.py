"""What an answer of each kind costs when it is served on a CPU: `python -m benchmarks.ranking.cost`.

The networks have the settings of `benchmarks.ranking.peers` and are trained for one epoch on a few synthetic users, because the cost of
an answer does not depend on the weights. Each answers requests of users with long histories, one by one, on one thread: it scores every
item and takes the best ten. The seconds are those of the thread, so other work on the machine counts little.

SS4Rec keeps a state of fixed size for each user, and answers by one step from it. The other kinds keep the user's latest events and
read them again for each answer. SS4Rec is also measured that way.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ranking.variants import SEARCHES, VARIANTS, settings_of, studies_of
from benchmarks.report import hardware, write_result
from configs.kinds import spec_of
from infra.pages import markdown_table
from models.kinds import recommender_class
from models.recommender import Recommender, Requests, Sequences
from models.ss4rec import RecurrentSS4Rec
from models.top_k import best

ITEMS, USERS = 3706, 64  # the films of MovieLens 1M
ITEM_BYTES, TIME_BYTES = 4, 8
SEED = 1


def main() -> None:
    """Measure each kind, write the result and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200, help="answers of each kind; the median counts")
    parser.add_argument("--search", type=Path, nargs="+", default=list(SEARCHES), help="results of the searches")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cost.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    studies = studies_of(given.search)
    shown = [variant for variant, (_, study, changes) in VARIANTS.items() if study in studies and not changes]
    rows = [row for variant in shown for row in _measured(variant, studies, given.requests)]
    result = {"hardware": hardware(), "seed": SEED, "items": ITEMS, "requests": given.requests, "rows": rows}
    write_result(given.out, result)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the rows as a Markdown table, the cheapest answer first."""
    found = sorted(result["rows"], key=lambda row: row["ms"])
    rows = [
        [row["variant"], row["reads"], f"{row['ms']:.2f}", f"{row['ms'] / found[0]['ms']:.1f}", f"{row['bytes']:,}"]
        for row in found
    ]
    return markdown_table(["model", "an answer reads", "CPU ms an answer", "times the cheapest", "bytes kept for a user"], rows)


def _measured(variant: str, studies: dict[str, Any], count: int) -> list[dict[str, Any]]:
    settings = settings_of(variant, studies, ("max_epochs=1", "device=cpu", "precision=float32"))
    length = settings.max_length
    people = _histories(length)
    kind = VARIANTS[variant][0]
    model: Recommender = recommender_class(spec_of(kind))(settings)
    model.fit(_train(people), people.take(np.arange(2)), _catalogue(), seed=SEED, mask_seen=True)
    timed = getattr(model, "reads_time", False) or settings.interval_embedding
    kept = length * (ITEM_BYTES + (TIME_BYTES if timed else 0))
    if kind != "ss4rec":
        return [_row(variant, f"the latest {length} events", kept, _by_history(model, people), count)]
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        served = RecurrentSS4Rec.load(Path(folder))
    state = 4 * served.state_size + ITEM_BYTES + TIME_BYTES
    found = [
        _row(variant, "a state and the last event", state, _by_state(served, people), count),
        _row(variant, f"the latest {length} events", length * (ITEM_BYTES + TIME_BYTES), _by_recurrence(served, people), count),
    ]
    return found


def _row(variant: str, reads: str, kept: int, answer: Callable[[int], object], count: int) -> dict[str, Any]:
    for number in range(5):
        answer(number % USERS)
    seconds = []
    for number in range(count):
        begun = time.thread_time()
        answer(number % USERS)
        seconds.append(time.thread_time() - begun)
    return {"variant": variant, "reads": reads, "ms": 1000 * float(np.median(seconds)), "bytes": kept}


def _by_history(model: Recommender, people: Requests) -> Callable[[int], object]:
    single = [people.take(np.array([user])) for user in range(USERS)]
    return lambda user: best(model.scores(single[user]).numpy()[0], 10)


def _by_state(served: RecurrentSS4Rec, people: Requests) -> Callable[[int], object]:
    states = served.start(USERS)
    ends = people.offsets[1:]
    item, gap = (people.item_ids - 1).astype(np.int64), np.full(len(people.item_ids), 3600, np.int64)
    until = people.timestamps + gap
    served.advance(states, item, gap, people.offsets.astype(np.int64), [None] * USERS, until)
    one = np.array([0, 1], np.int64)

    def answer(user: int) -> object:
        last = slice(ends[user] - 1, ends[user])
        hidden = served.advance(states[user : user + 1].copy(), item[last], gap[last], one, [None], until[last])
        return best(served.scores(hidden)[0], 10)

    return answer


def _by_recurrence(served: RecurrentSS4Rec, people: Requests) -> Callable[[int], object]:
    item, gap = (people.item_ids - 1).astype(np.int64), np.full(len(people.item_ids), 3600, np.int64)

    def answer(user: int) -> object:
        begin, end = int(people.offsets[user]), int(people.offsets[user + 1])
        some, offsets = slice(begin, end), np.array([0, end - begin], np.int64)
        hidden = served.advance(served.start(1), item[some], gap[some], offsets, [None], people.timestamps[some] + gap[some])
        return best(served.scores(hidden)[0], 10)

    return answer


def _catalogue() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(1, ITEMS + 1, dtype=np.int64)


def _histories(length: int) -> Requests:
    drawn = np.random.default_rng(SEED)
    items = np.concatenate([drawn.choice(ITEMS, length, replace=False) + 1 for _ in range(USERS)]).astype(np.int64)
    times = np.concatenate([np.sort(drawn.integers(0, 10**8, length)) for _ in range(USERS)]).astype(np.int64)
    offsets = np.arange(USERS + 1, dtype=np.int64) * length
    return Requests(
        user_ids=np.arange(USERS, dtype=np.int64),
        offsets=offsets,
        item_ids=items,
        timestamps=times,
        request_times=times[offsets[1:] - 1] + 3600,
        targets=np.ones(USERS, np.int64),
    )


def _train(people: Requests) -> Sequences:
    return Sequences(
        user_ids=people.user_ids, offsets=people.offsets, item_ids=people.item_ids, timestamps=people.timestamps, ties_drawn=True
    )


if __name__ == "__main__":
    main()
