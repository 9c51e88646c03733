"""A user's state does not depend on how it was computed, and gives the trained network's scores."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import VersionCorruptError
from configs.settings import NCFSettings, PopularitySettings
from models.inference import SAMPLE_FILE, served_events
from models.ncf import NCF
from models.popularity import Popularity
from serving.engine import ServedModel
from serving.follower import warm
from serving.state import UserLog, UserState, entry
from serving.state.user_log import append
from tasks.evaluation.load_check import sample_requests
from tests.serving.versions import START, Served, draw, full_pass, served
from tests.tasks.stored import small_split

EPOCHS = iter(range(10**9))


@pytest.fixture(scope="module", params=[{}, {"calendar_input": True}], ids=str)
def version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return served(tmp_path_factory.mktemp("version"), max_length=5, most_events=12, **request.param)


def advanced(model: ServedModel, log: UserLog, state: UserState | None) -> UserState:
    plan = model.plan(log, state)
    numbers = model.states([plan], [None])[0]
    last = (int(plan.items[-1]), int(plan.times[-1])) if len(plan.items) else (-1, 0)
    return UserState(log.epoch, log.count, *last, numbers)


EVENT = st.tuples(st.integers(0, 45), st.sampled_from([0, 0, 1, 60, 90_000]), st.booleans())


@given(st.lists(st.tuples(EVENT, st.booleans(), st.booleans()), max_size=40))
@settings(max_examples=60)
def test_a_state_is_the_same_whether_it_was_advanced_caught_up_or_rebuilt(
    version: Served, events: list[tuple[tuple[int, int, bool], bool, bool]]
) -> None:
    """This holds after late events, with items that the model does not know, and where the state starts again, too."""
    model, state, content, time = version.served, None, None, START
    for number, ((item, gap, late), kept, passed_on) in enumerate(events):
        time += gap
        at = time - 40 if late else time
        content, _ = append(content, entry(95 + item, at, b"%08d" % number), 12, b"%08d" % next(EPOCHS))
        log = UserLog.read(content)
        rebuilt = advanced(model, log, None)
        if kept:  # else this event is caught up with the next one
            state = advanced(model, log, state)
            assert (state.last_item, state.last_time) == (rebuilt.last_item, rebuilt.last_time)
            assert np.array_equal(state.numbers, rebuilt.numbers)
            if passed_on:  # through Redis
                state = UserState.read(state.to_bytes(), model.model.state_size)


@given(st.integers(1, 10_000), st.integers(1, 60))
def test_a_state_reads_all_events_or_between_one_and_two_blocks(count: int, block: int) -> None:
    length = served_events(count, block)
    assert length == count if count <= 2 * block else block < length <= 2 * block
    begin, before = count - length, count - 1 - served_events(count - 1, block)
    assert begin == before or (begin - before == block and begin % block == 0)


def test_scores_equal_those_of_the_full_pass_over_the_same_events(version: Served) -> None:
    rng = np.random.default_rng(1)
    for length in (1, 2, 9, 10, 11, 12):
        items = rng.choice(version.served.catalogue.item_ids, length).tolist()
        times = np.sort(START + rng.integers(0, 10**6, length)).tolist()
        content = None
        for number, (item, time) in enumerate(zip(items, times, strict=True)):
            content, _ = append(content, entry(item, time, b"%08d" % number), 12, b"epoch..1")
        plan = version.served.plan(UserLog.read(content), None)
        now = times[-1] + 5000
        found = version.served.scores(version.served.states([plan], [None]), [plan], [now], [None])[0]
        read = served_events(length, 5)
        assert np.abs(found - full_pass(version.trained, items[-read:], times[-read:], now)).max() < 1e-4


def test_a_state_of_another_model_size_or_an_evicted_log_is_rebuilt(version: Served) -> None:
    model = version.served
    content, _ = append(None, entry(100, START, b"12345678") + entry(101, START, b"22345678"), 12, b"epoch..1")
    log = UserLog.read(content)
    state = advanced(model, log, None)
    assert UserState.read(state.to_bytes(), model.model.state_size + 1) is None
    assert UserState.read(None, 1) is None
    assert not model.plan(log, state).rebuilt and model.plan(log, state).current
    other = UserLog(b"epoch..2", log.count, log.times, log.items)  # started again after the log was lost
    assert model.plan(other, state).rebuilt


def test_similar_films_are_the_nearest_vectors_without_the_film_itself(version: Served) -> None:
    items, likeness = version.served.similar(3, 5)
    vectors = version.served.model.item_vectors
    cosine = vectors @ vectors[3] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[3])
    cosine[3] = -np.inf
    assert items.tolist() == np.argsort(-cosine)[:5].tolist() and np.allclose(likeness, cosine[items], atol=1e-6)


def test_titles_are_found_whatever_their_case_the_most_popular_first(version: Served) -> None:
    model = version.served
    found = model.search("FILM 10", 3)
    popularity = model.catalogue.popularity
    matching = [i for i, title in enumerate(model.catalogue.titles) if "Film 10" in title]
    assert found == sorted(matching, key=lambda i: (-popularity[i], i))[:3] and model.search("nothing", 3) == []


def test_a_version_whose_answers_differ_from_those_of_its_training_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, seed=3)
    model = ServedModel.load(tmp_path, "v", 1, 1000)
    assert model.check_samples(tmp_path) == 5
    samples = json.loads((tmp_path / "sample_requests.json").read_text())
    samples[2]["top_scores"][4] += 0.01
    (tmp_path / "sample_requests.json").write_text(json.dumps(samples))
    with pytest.raises(VersionCorruptError, match="differently from the trained model: scores differ by"):
        model.check_samples(tmp_path)
    samples[2]["top_items"][0] = -7
    (tmp_path / "sample_requests.json").write_text(json.dumps(samples))
    with pytest.raises(VersionCorruptError, match="different items"):
        model.check_samples(tmp_path)
    (tmp_path / "sample_requests.json").write_text("[{}]")
    with pytest.raises(VersionCorruptError, match=r"sample_requests\.json"):
        model.check_samples(tmp_path)


def test_a_machine_with_too_many_open_files_does_not_make_a_version_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path)
    model = ServedModel.load(tmp_path, "v", 1, 1000)

    def refused(*arguments: object, **options: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as busy:
        busy.setattr(Path, "read_text", refused)
        with pytest.raises(OSError, match="Too many open files"):
            model.check_samples(tmp_path)
    (tmp_path / SAMPLE_FILE).unlink()
    with pytest.raises(VersionCorruptError, match=r"sample_requests\.json cannot be read"):
        model.check_samples(tmp_path)


def test_a_version_whose_weights_are_not_finite_is_refused_when_it_is_warmed_up(tmp_path: Path) -> None:
    draw(tmp_path)
    model = ServedModel.load(tmp_path, "v", 1, 1000)
    model.model._weights.skip[:] = np.nan  # type: ignore[attr-defined]
    with pytest.raises(VersionCorruptError, match="not finite"):
        warm(model)


def test_an_ncf_version_answers_its_stored_requests(tmp_path: Path) -> None:
    parts = small_split()
    model = NCF(NCFSettings(mf_width=4, mlp_width=4, mlp_hidden=(8, 4), max_epochs=1, device="cpu"))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True)
    model.save(tmp_path)
    (tmp_path / SAMPLE_FILE).write_text(json.dumps(sample_requests(model, parts.test, count=5, seed=0)))
    served_model = ServedModel.load(tmp_path, "v", 1, 1000)
    warm(served_model)
    assert served_model.check_samples(tmp_path) == 5 and len(served_model.similar(0, 3)[0]) == 3


def test_popularity_can_be_served_and_other_kinds_cannot(tmp_path: Path) -> None:
    parts = small_split()
    model = Popularity(PopularitySettings())
    model.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True)
    model.save(tmp_path)
    floor = ServedModel.load(tmp_path, "v", 1, 1000)
    warm(floor)
    content, _ = append(None, entry(int(parts.catalogue[0]), START, b"12345678"), 12, b"epoch..1")
    plan = floor.plan(UserLog.read(content), None)
    scores = floor.scores(floor.states([plan], [None]), [plan], [START], [None])
    assert np.array_equal(scores[0], model._counts.numpy()) and floor.similar(0, 3)[0].tolist() == []
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model": "SASRec"}))
    with pytest.raises(VersionCorruptError, match="'SASRec'"):
        ServedModel.load(tmp_path, "v", 1, 1000)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(VersionCorruptError, match=r"config\.json"):
        ServedModel.load(tmp_path, "v", 1, 1000)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(VersionCorruptError, match="popularity counts"):
        ServedModel.load(tmp_path, "v", 1, 1000)
