"""For many real histories, the state that was advanced event by event gives the scores of the trained network's full pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import load_split
from configs.serving import CHAMPION, BatchSettings, RedisSettings, StateSettings
from configs.settings import SS4RecSettings
from models.inference import served_events
from models.recommender import Requests
from models.ss4rec import SS4Rec
from serving.engine import Answer, Engine, EventJob, Models, NewEvent, RecommendJob, RequestTime, ServedModel
from serving.experiments import Assignment
from serving.reranking import Rules
from serving.state import StateStore, key_of
from serving.state.redis_store import RedisStates
from tasks.evaluation.load_check import SAMPLE_FILE
from tests.doubles.redis_server import redis_server
from tests.serving.engine import test_window_model as windows
from tests.volume import volume

pytestmark = pytest.mark.full
STATE = StateSettings(events=1000)
HISTORIES = volume(200, 1000)
TOP = 10


def trained(folder: Path, seed: int, **options: object) -> tuple[SS4Rec, ServedModel]:
    """Train for a short time on MovieLens 100K. The model need not be good, but its weights must have moved."""
    parts = load_split("ml-100k", None, "loo-exact")
    model = SS4Rec(SS4RecSettings(device="cpu", width=32, max_epochs=1, batch_tokens=4096, **options))  # type: ignore[arg-type]
    model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=True)
    model.save(folder)
    (folder / SAMPLE_FILE).write_text("[]")
    return model, ServedModel.load(folder, f"v{seed}", seed, STATE.events)


def full_pass(model: SS4Rec, requests: Requests, block: int) -> np.ndarray:
    """Return scores, (R, n_items), of one pass over what a state has read: all events, or one to two blocks of the latest."""
    lengths = np.array([served_events(int(length), block) for length in requests.lengths])
    rows = [np.arange(end - length, end) for end, length in zip(requests.offsets[1:], lengths, strict=True)]
    read = np.concatenate(rows)
    model._settings = model._settings.model_copy(update={"max_length": int(lengths.max())})
    shortened = Requests(
        user_ids=requests.user_ids,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        item_ids=requests.item_ids[read],
        timestamps=requests.timestamps[read],
        request_times=requests.request_times,
        targets=requests.targets,
    )
    scores = model.scores(shortened).numpy().copy()
    for row in range(len(requests)):
        seen = requests.item_ids[requests.offsets[row] : requests.offsets[row + 1]]
        scores[row, np.isin(model.catalogue, seen)] = -np.inf
    return scores


def engine_of(states: StateStore, model: ServedModel) -> Engine:
    rules = Rules()
    engine = Engine(states, BatchSettings(cache_s=0), lambda: rules)
    engine.models = Models(model, {})
    return engine


def check(engine: Engine, requests: Requests, expected: np.ndarray, source: str) -> None:
    catalogue = engine.serving().catalogue.item_ids
    for begin in range(0, len(requests), 16):
        rows = range(begin, min(begin + 16, len(requests)))
        times = [int(requests.request_times[row]) for row in rows]
        jobs = [
            RecommendJob(Assignment(CHAMPION), TOP, RequestTime.of(None, time), user=row)
            for row, time in zip(rows, times, strict=True)
        ]
        for row, answer in zip(rows, engine.process(jobs), strict=True):
            assert isinstance(answer, Answer), answer
            assert answer.source == source
            best = np.argsort(-expected[row], kind="stable")[:TOP]
            assert [item.item_id for item in answer.items] == catalogue[best].tolist(), row
            difference = np.abs(np.array([item.score for item in answer.items]) - expected[row][best])
            assert difference.max() < 1e-4


def test_the_histories_of_real_users_give_the_scores_and_top_ten_of_the_full_pass(tmp_path: Path) -> None:
    """This also holds through Redis, after a restart of the worker, and after another version has taken over."""
    parts = load_split("ml-100k", None, "loo-exact")
    # Users at their last event, in the nightly tests all 943 of them, and the first ones again at the event before.
    rows = np.arange(min(len(parts.test), HISTORIES - 50))
    latest, earlier = parts.test.take(rows), parts.valid.take(rows[: HISTORIES - len(rows)])
    requests = Requests(
        user_ids=np.concatenate([latest.user_ids, earlier.user_ids]),
        offsets=np.concatenate([latest.offsets, latest.offsets[-1] + earlier.offsets[1:]]),
        item_ids=np.concatenate([latest.item_ids, earlier.item_ids]),
        timestamps=np.concatenate([latest.timestamps, earlier.timestamps]),
        request_times=np.concatenate([latest.request_times, earlier.request_times]),
        targets=np.concatenate([latest.targets, earlier.targets]),
    )
    assert len(requests) == HISTORIES
    first, served_first = trained(tmp_path / "first", 1)
    second, served_second = trained(tmp_path / "second", 2, interval="log1p")
    with redis_server() as server:

        def worker(model: ServedModel) -> Engine:
            return engine_of(RedisStates(RedisSettings(url=server.url, timeout_s=30), STATE), model)

        engine = worker(served_first)
        longest = int(requests.lengths.max())
        for step in range(longest):  # every user's next event, in batches of many users
            jobs = []
            for row in np.flatnonzero(requests.lengths > step).tolist():
                place = int(requests.offsets[row]) + step
                item, at = int(requests.item_ids[place]), int(requests.timestamps[place])
                event = NewEvent(row, item, at, key_of(f"{step}", item, at))
                jobs.append(EventJob((event,), {row: Assignment(CHAMPION)}))
            for begin in range(0, len(jobs), 256):
                engine.process(jobs[begin : begin + 256])
        expected = full_pass(first, requests, served_first.block)
        check(engine, requests, expected, "state")
        engine.states.store.close()
        restarted = worker(ServedModel.load(tmp_path / "first", "v1", 1, STATE.events))
        check(restarted, requests, expected, "state")
        restarted.models = Models(served_second, {"v1": served_first})
        other = full_pass(second, requests, served_second.block)
        check(restarted, requests, other, "rebuilt")
        check(restarted, requests, other, "state")
        restarted.models = Models(served_first, {"v2": served_second})  # rolled back
        check(restarted, requests, expected, "state")
        restarted.states.store.close()


@pytest.mark.parametrize("kind", windows.SETTINGS)
def test_a_model_without_a_state_gives_the_scores_of_its_full_pass_through_redis(kind: str, tmp_path: Path) -> None:
    """Two workers share Redis, and are started again from the version's files."""
    parts, (model, served) = windows.small_split(), windows.version(tmp_path, kind)
    histories = [
        list(zip(items.tolist(), times.tolist(), strict=True))
        for items, times in zip(
            np.split(parts.test.item_ids, parts.test.offsets[1:-1]),
            np.split(parts.test.timestamps, parts.test.offsets[1:-1]),
            strict=True,
        )
    ]
    with redis_server() as server:

        def worker(version: ServedModel) -> Engine:
            return engine_of(RedisStates(RedisSettings(url=server.url, timeout_s=30), STATE), version)

        workers = [worker(served), worker(served)]
        for step in range(max(map(len, histories))):
            for user, own in enumerate(histories):
                if step < len(own):
                    item, at = own[step]
                    event = NewEvent(user, item, at, key_of(f"{step}", item, at))
                    workers[(user + step) % 2].process([EventJob((event,), {user: Assignment(CHAMPION)})])
        restarted = worker(windows.loaded(tmp_path))
        now = int(parts.test.request_times.max())
        for engine in (*workers, restarted):
            answers = engine.process([windows.asked(user, now) for user in range(len(histories))])
            for user, own in enumerate(histories):
                windows.check(answers[user], windows.full_pass(model, user, own, now))
        for engine in (*workers, restarted):
            engine.states.store.close()
