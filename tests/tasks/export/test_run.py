"""An export has what a server would answer, for every user. A killed one goes on, and nothing half-written counts as one."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from configs.errors import CannotExportError, ChampionMissingError, NotFoundError, StoreUnavailableError
from configs.kinds import spec_of
from configs.serving import CHAMPION, BatchSettings, RuleFile, StateSettings
from configs.settings import ExportSettings, NCFSettings, StoreSettings
from infra.storage import open_store
from infra.storage.local import LocalStore
from models.evaluation import split
from models.kinds import recommender_class
from models.ncf import NCF
from serving.engine import Answer, Engine, EventJob, Models, NewEvent, RecommendJob, RequestTime, ServedModel
from serving.experiments import Assignment
from serving.reranking import Rules
from serving.state import LocalStates, key_of
from tasks.export import chosen_version
from tasks.export.users import ChosenUsers
from tests.doubles.moto_s3 import moto_s3
from tests.examples import use_examples
from tests.tasks.exported import EVENTS, PIECE, K, Made
from tests.tasks.stored import NAME, stage_popularity


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("export"))


@pytest.fixture
def made(made_once: Made, tmp_path: Path) -> Made:
    """The store and version, with a place of its own for the exports of each test."""
    made_once.destination = LocalStore(tmp_path / "exports")
    return made_once


def served_answers(made: Made, seen: str, folder: str = "version") -> dict[int, list[tuple[int, float]]]:
    """Return what a server answers each user after it has been sent all events, by user."""
    model = ServedModel.load(made.root / folder, "v", 1, 1000)
    rules = Rules(RuleFile(seen=seen))  # type: ignore[arg-type]
    engine = Engine(LocalStates(StateSettings()), BatchSettings(cache_s=0), lambda: rules)
    engine.models = Models(model, {})
    found = {}
    for user, own in EVENTS.sort_values("timestamp", kind="stable").groupby("user_id"):
        number = int(user)  # type: ignore[call-overload]
        for item, time in zip(own["item_id"].tolist(), own["timestamp"].tolist(), strict=True):
            engine.process([EventJob((NewEvent(number, item, time, key_of(None, item, time)),), {number: Assignment(CHAMPION)})])
        job = RecommendJob(Assignment(CHAMPION), user=number, time=RequestTime(made.at, made.at, False), k=K)
        answer = engine.process([job])[0]
        assert isinstance(answer, Answer), answer
        found[number] = [(item.item_id, item.score) for item in answer.items]
    return found


@pytest.mark.parametrize("seen", ["hide", "show"])
def test_the_best_items_of_all_users_equal_a_servers_answers(seen: str, made: Made) -> None:
    table = made.read(made.export(parts=["top_k"], seen=seen), "top_k")
    expected = served_answers(made, seen)
    assert table["user_id"].unique().tolist() == sorted(expected)
    for user, own in table.groupby("user_id"):
        answer = expected[int(user)]  # type: ignore[call-overload]
        assert own["rank"].tolist() == list(range(1, len(answer) + 1))
        assert own["item_id"].tolist() == [item for item, _ in answer]
        np.testing.assert_allclose(own["score"], [score for _, score in answer], rtol=1e-5, atol=1e-6)  # a sum may be near 0


def test_the_best_items_of_a_plugins_model_equal_a_servers_answers(made: Made) -> None:
    use_examples()
    spec = spec_of("my_sasrec")
    parts = split(EVENTS.assign(row=np.arange(len(EVENTS))), made.settings.evaluation)
    model = recommender_class(spec)(spec.settings(max_length=6, width=8, heads=1, blocks=1, max_epochs=1))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    folder = made.root / "plugin"
    model.save(folder)
    ref = made.sealed(folder, "my_sasrec")
    found = made.export(ref, parts=["top_k", "program"], seen="hide")
    assert found.left_out == {"program": "A model of the kind my_sasrec cannot be exported as a program."}
    table, expected = made.read(found, "top_k"), served_answers(made, "hide", "plugin")
    for user, own in table.groupby("user_id"):
        answer = expected[int(user)]  # type: ignore[call-overload]
        np.testing.assert_allclose(own["score"], [score for _, score in answer], rtol=1e-4)
        assert own["item_id"].tolist() == [item for item, _ in answer]


@pytest.mark.full
def test_vectors_give_the_exported_scores_and_the_manifest_says_so(made: Made) -> None:
    found = made.export(seen="show")
    items, users = made.read(found, "item_vectors"), made.read(found, "user_vectors")
    top = made.read(found, "top_k")
    scores = np.stack(users["vector"]) @ np.stack(items["vector"]).T
    for row, user in list(enumerate(users["user_id"].tolist()))[:10]:
        best = np.argsort(-scores[row], kind="stable")[:K]
        own = top[top["user_id"] == user]
        assert items["item_id"].to_numpy()[best].tolist() == own["item_id"].tolist()
        np.testing.assert_allclose(scores[row][best], own["score"], rtol=1e-4)
    manifest = made.manifest(found)
    assert manifest["scores_are_products_of_vectors"] and manifest["users"] == 50 and manifest["left_out"] == {}
    assert manifest["files"]["top_k/00000.parquet"]["rows"] == PIECE * K
    assert {"program/model.pt2", "program/program.json", "program/items.parquet"} <= manifest["files"].keys()


def test_a_killed_export_goes_on_after_its_last_file_and_gives_the_same(made: Made, tmp_path: Path) -> None:
    whole = made.export(parts=["top_k", "user_vectors"])
    files = {key: made.destination.get(key) for key in made.destination.list() if f"{Path(whole.uri).name}/" in key}
    made.destination = LocalStore(tmp_path / "other")

    def killed(done: int, users: int) -> None:
        if done >= 2 * PIECE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.export(parts=["top_k", "user_vectors"], progress=killed)
    assert not any(key.endswith(("manifest.json", "latest.json")) for key in made.destination.list())
    again = made.export(parts=["top_k", "user_vectors"])
    assert again.kept == 4 and again.files == whole.files == 8
    assert {key: made.destination.get(key) for key in made.destination.list() if "latest" not in key} == files
    latest = json.loads(made.destination.get(f"{NAME}/latest.json"))
    assert latest["export"] == Path(again.uri).name


def test_an_unfinished_export_of_today_is_continued_with_its_own_time(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.destination = LocalStore(tmp_path / "out")
    clock = [2_000_000_000.0]
    monkeypatch.setattr("tasks.export.run.wall_clock", lambda: clock[0])

    def killed(done: int, users: int) -> None:
        raise StoreUnavailableError("away")

    with pytest.raises(StoreUnavailableError):
        made.export(parts=["top_k"], at=None, progress=killed)
    clock[0] += 3600
    assert made.export(parts=["top_k"], at=None).at == 2_000_000_000
    clock[0] += 1
    assert made.export(parts=["top_k"], at=None).at == 2_000_003_601, "a complete export is not continued"
    with pytest.raises(StoreUnavailableError):
        made.export(parts=["top_k"], at=None, k=3, progress=killed)
    clock[0] += 2 * 86_400
    assert made.export(parts=["top_k"], at=None, k=3).at == clock[0], "one of two days ago is not continued"


def test_chosen_users_get_their_answers_and_unknown_ones_those_of_new_users(made: Made) -> None:
    everyone = made.read(made.export(parts=["top_k"]), "top_k")
    some = made.read(made.export(parts=["top_k"], users=ChosenUsers(np.array([3, 40, 999]), None)), "top_k")
    pd.testing.assert_frame_equal(
        some.query("user_id < 900").reset_index(drop=True), everyone.query("user_id in (3, 40)").reset_index(drop=True)
    )
    popular = pd.read_parquet(made.root / "version" / "catalogue.parquet").sort_values(
        ["train_events", "item_id"], ascending=[False, True]
    )
    assert some.query("user_id == 999")["item_id"].tolist() == popular["item_id"].head(K).tolist()


def test_a_kind_without_vectors_says_so_and_the_rest_is_written(made: Made, tmp_path: Path) -> None:
    stage_popularity(made.store, tmp_path / "popularity")
    ref = made.sealed(tmp_path / "popularity", "popularity")
    found = made.export(ref)
    assert set(found.left_out) == {"item_vectors", "user_vectors", "program"}
    assert found.left_out["program"] == "A model of the kind popularity cannot be exported as a program."
    assert made.read(found, "top_k")["user_id"].nunique() == 50
    with pytest.raises(CannotExportError, match=r"Nothing can be exported. A model of the kind popularity has no vectors"):
        made.export(ref, parts=["item_vectors"])


def test_without_a_champion_there_is_nothing_to_export(made: Made) -> None:
    with pytest.raises(ChampionMissingError, match="nothing to export"):
        chosen_version(made.store, NAME, "champion")
    with pytest.raises(NotFoundError):
        chosen_version(made.store, NAME, "nothing")
    assert chosen_version(made.store, NAME, made.ref.version) == made.ref


def test_text_ids_leave_as_texts(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.export import run

    numbers = np.arange(1, 51)
    texts = pd.Series([f"cust/{user}" for user in numbers], index=numbers, dtype="string")
    monkeypatch.setattr(run, "external_ids", lambda *_: texts)
    chosen = ChosenUsers(np.array([1, 50, 77]), ["cust/1", "cust/50", "somebody new"])
    table = made.read(made.export(parts=["top_k"], users=chosen), "top_k")
    assert table["user_id"].unique().tolist() == ["cust/1", "cust/50", "somebody new"]


def test_users_who_were_removed_since_are_left_out_of_the_program(made: Made) -> None:
    from tasks.export.program import program_files
    from tasks.export.run import _named

    parts = split(EVENTS.assign(row=np.arange(len(EVENTS))), made.settings.evaluation)
    model = NCF(NCFSettings(device="cpu", max_epochs=1))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    program = model.program()
    assert program.users is not None
    left = np.delete(program.users, 1)
    for kind in ("string", "object"):
        texts = pd.Series([f"cust/{user}" for user in left], index=left, dtype=kind)
        files = program_files(program, pa.array(parts.catalogue), _named(texts, program.users))
        users = pd.read_parquet(io.BytesIO(files["users.parquet"]))
        assert users["user_id"].tolist() == texts.tolist() and users["number"].tolist() == [1, *range(3, len(left) + 2)]


def test_an_export_to_s3_has_the_same_files(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    made.destination = LocalStore(tmp_path / "out")
    made.export(parts=["top_k", "item_vectors"])
    here = {key: made.destination.get(key) for key in made.destination.list()}
    with moto_s3() as url:
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="nightly")
        settings = ExportSettings(to="s3://nightly/exports").destination(StoreSettings(endpoint_url=url, region="us-east-1"))
        remote = open_store(settings)
        made.destination = remote  # type: ignore[assignment]
        found = made.export(parts=["top_k", "item_vectors"])
        assert found.uri.startswith("s3://nightly/exports/") and {key: remote.get(key) for key in remote.list()} == here


@pytest.mark.parametrize("to", ["", "ftp://nowhere", "s3://"])
def test_a_destination_that_is_none_is_refused(to: str) -> None:
    with pytest.raises(ValidationError, match="folder"):
        ExportSettings(to=to)


def test_files_of_the_export_are_plain_parquet(made: Made) -> None:
    found = made.export(parts=["item_vectors"])
    content = made.destination.get(f"{NAME}/{Path(found.uri).name}/item_vectors/00000.parquet")
    table = pd.read_parquet(io.BytesIO(content))
    assert list(table) == ["item_id", "vector"] and len(table["vector"].iloc[0]) == 16
    assert replace(found, seconds=2.0, users=50).users_per_s == 25.0
