"""Which version is served as the promotion log grows."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from botocore.exceptions import PartialCredentialsError
from safetensors.numpy import load_file, save_file

from configs.errors import StoreDeniedError, StoreUnavailableError
from infra.registry import Lineage, ModelRegistry, file_digests
from infra.storage.local import LocalStore
from serving.engine import Models, ServedModel
from serving.follower import ChampionFollower
from tests.serving.versions import NAME, draw, promote_version, publish, settings_of


class World:
    """A store with two good versions and two broken ones, none promoted."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, LocalStore(root / "store")
        self.swaps: list[Models] = []
        self.wanted: frozenset[str] = frozenset()
        names = root / "names.json"
        if not names.exists():
            names.write_text(json.dumps([publish(self.store, folder).version for folder in self._draw()]))
        self.first, self.second, self.swapped, self.nan = json.loads(names.read_text())

    def _draw(self) -> list[Path]:
        """Draw two versions that work, one that has the weights of another, and one whose weights are NaN."""
        first, second, swapped, nan = (self.root / name for name in ("first", "second", "swapped", "nan"))
        draw(first, 1)
        draw(second, 2)
        shutil.copytree(first, swapped)
        shutil.copy(second / "model.safetensors", swapped)
        shutil.copytree(first, nan)
        weights = load_file(nan / "model.safetensors")
        save_file({name: np.full_like(weight, np.nan) for name, weight in weights.items()}, nan / "model.safetensors")
        return [first, second, swapped, nan]

    def follower(self, **options: object) -> ChampionFollower:
        settings = settings_of(self.root, **options)
        return ChampionFollower(self.store, settings, self.swaps.append, lambda: self.wanted)

    def served(self) -> str | None:
        champion = self.swaps[-1].champion if self.swaps else None
        return champion.version if champion else None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    World(root)
    return root


@pytest.fixture
def world(made: Path, tmp_path: Path) -> World:
    root = tmp_path / "world"
    shutil.copytree(made, root)
    return World(root)


def test_nothing_is_served_before_a_promotion_and_the_champion_after_each(world: World) -> None:
    follower = world.follower()
    follower.look()
    assert world.swaps == [] and follower.models.champion is None
    promote_version(world.store, world.first)
    follower.look()
    assert world.served() == world.first
    promote_version(world.store, world.second)
    follower.look()
    follower.look()
    assert world.served() == world.second and len(world.swaps) == 2
    assert list(world.swaps[-1].others) == [world.first]  # at hand for a rollback
    before = world.swaps[-1].others[world.first]
    promote_version(world.store, world.first, "rollback")
    follower.look()
    champion = world.swaps[-1].champion
    assert champion is not None and champion.model is before.model and champion.number == 3
    assert list(world.swaps[-1].others) == [world.second]
    assert list((world.root / "served").iterdir()) == []  # nothing is left of what was fetched


def test_a_version_is_served_with_the_weights_of_its_refit(world: World) -> None:
    registry, judged, refit = ModelRegistry(world.store), world.root / "first", world.root / "second"
    staged = registry.stage(NAME, judged, datetime.now(UTC) + timedelta(hours=1))
    staged = registry.stage_serving(staged, refit, file_digests(refit))
    lineage = Lineage(**registry.manifest(NAME, world.first)["lineage"])
    version = registry.seal(staged, {"outcome": "promoted", "reasons": []}, lineage, datetime.now(UTC)).version
    promote_version(world.store, version)
    world.follower().look()
    champion = world.swaps[-1].champion
    assert champion is not None and champion.version == version, "the answers stored with the refit are those of its weights"
    expected = ServedModel.load(refit, "refit", 1, 1000)
    assert np.array_equal(champion.model.item_vectors, expected.model.item_vectors)


def test_a_broken_version_is_refused_and_reported_and_the_old_one_stays_in_service(world: World) -> None:
    follower = world.follower()
    promote_version(world.store, world.first)
    follower.look()
    for number, (broken, why) in enumerate([(world.swapped, "differently from the trained model"), (world.nan, "")], start=2):
        promote_version(world.store, broken, "force")
        follower.look()
        assert world.served() == world.first and len(world.swaps) == 1
        refused = follower.refused[broken]
        assert refused.promotion == number and why in refused.reason
        assert follower.promotion is not None and follower.promotion.number == number
    assert set(follower.refused) == {world.swapped, world.nan}
    promote_version(world.store, world.second)
    follower.look()
    assert world.served() == world.second and follower.refused == {}, "versions that were replaced still raise an alarm"


def test_a_version_that_exits_when_it_is_loaded_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: object) -> None:
        raise SystemExit("this model needs a GPU")

    follower = world.follower()
    promote_version(world.store, world.first)
    follower.look()
    monkeypatch.setattr("serving.follower.warm", leave)
    promote_version(world.store, world.second)
    follower.look()
    assert world.served() == world.first and "this model needs a GPU" in follower.refused[world.second].reason


def test_a_version_whose_stored_files_or_manifest_were_edited_is_refused(world: World) -> None:
    follower = world.follower()
    promote_version(world.store, world.first)
    follower.look()
    promote_version(world.store, world.second)
    path = world.root / "store" / "models" / "ranker" / world.second / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    follower.look()
    assert world.served() == world.first and "differs from its manifest" in follower.refused[world.second].reason
    promote_version(world.store, world.first)  # again, and now its manifest is another one
    manifest = world.root / "store" / "models" / "ranker" / world.first / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    follower.look()
    assert world.served() == world.first and "manifest" in follower.refused[world.first].reason


def test_a_server_that_starts_on_a_broken_champion_serves_the_one_before(world: World) -> None:
    promote_version(world.store, world.first)
    promote_version(world.store, world.swapped, "force")
    promote_version(world.store, world.nan, "force")
    follower = world.follower()
    follower.look()
    assert world.served() == world.first and set(follower.refused) == {world.swapped, world.nan}


def test_a_store_that_does_not_answer_is_asked_again_and_blames_no_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    promote_version(world.store, world.first)
    follower = world.follower()
    whole = world.store.fetch

    def failing(key: str, path: Path) -> None:
        raise StoreUnavailableError("it does not answer")

    monkeypatch.setattr(world.store, "fetch", failing)
    follower.look()
    assert world.served() is None and follower.refused == {} and follower.looks_failed == 1
    monkeypatch.setattr(world.store, "fetch", whole)
    follower.look()
    assert world.served() == world.first


def test_versions_that_experiments_or_settings_want_are_loaded_and_later_dropped(world: World) -> None:
    promote_version(world.store, world.first)
    follower = world.follower(versions=(world.second, "20200101T000000Z-" + "0" * 32))
    follower.look()
    assert list(world.swaps[-1].others) == [world.second] and world.served() == world.first
    assert list(follower.refused) == ["20200101T000000Z-" + "0" * 32]
    follower = world.follower()
    world.wanted = frozenset({world.second, world.nan, world.first})
    follower.look()
    assert list(world.swaps[-1].others) == [world.second] and list(follower.refused) == [world.nan]
    world.wanted = frozenset()
    follower.look()
    assert dict(world.swaps[-1].others) == {}


def test_a_version_that_is_wanted_before_it_is_published_is_loaded_once_it_is(world: World) -> None:
    promote_version(world.store, world.first)
    models = world.root / "store" / "models" / "ranker"
    (models / world.second).rename(world.root / "later")
    world.wanted = frozenset({world.second})
    follower = world.follower()
    for _ in range(2):
        follower.look()
        assert world.swaps[-1].others == {} and "has no version" in follower.refused[world.second].reason
    (world.root / "later").rename(models / world.second)
    follower.look()
    assert list(world.swaps[-1].others) == [world.second] and follower.refused == {}


def test_a_version_that_cannot_be_fetched_does_not_keep_others_out_of_service(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote_version(world.store, world.first)
    follower = world.follower()
    follower.look()
    whole = world.store.fetch

    def failing(key: str, path: Path) -> None:
        if bad in key:
            raise error
        whole(key, path)

    error: Exception
    bad = min(world.swapped, world.second)
    other = max(world.swapped, world.second)
    monkeypatch.setattr(world.store, "fetch", failing)
    for away in (
        StoreUnavailableError("away"),
        OSError(errno.EIO, "Input/output error"),
        PartialCredentialsError(provider="env", cred_var="x"),
    ):
        error = away
        follower._extra.clear()
        world.wanted = frozenset({bad, other, world.nan})
        assert not follower.look() and follower.fault is not None and "StoreDenied" not in follower.fault
        assert bad not in follower.refused and follower.models.champion is not None
        assert (other in world.swaps[-1].others) == (other != world.swapped)
        assert world.nan in follower.refused, "the look ended at the first version that failed"
    bad = ""
    monkeypatch.setattr(world.store, "fetch", whole)
    world.wanted = frozenset({world.second})
    assert follower.look() and world.second in world.swaps[-1].others and follower.fault is None


def test_if_the_champion_cannot_be_read_at_the_start_the_one_before_is_served(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote_version(world.store, world.first)
    promote_version(world.store, world.second)
    whole = world.store.fetch

    def failing(key: str, path: Path) -> None:
        if world.second in key:
            raise StoreDeniedError("this folder is closed")
        whole(key, path)

    monkeypatch.setattr(world.store, "fetch", failing)
    follower = world.follower()
    assert not follower.look() and world.served() == world.first and follower.denied
    monkeypatch.setattr(world.store, "fetch", whole)
    assert follower.look() and world.served() == world.second and not follower.denied and follower.fault is None


def test_a_swap_that_fails_is_repeated(world: World) -> None:
    faults = [ValueError("a rule cannot be applied"), None]

    def swap(models: Models) -> None:
        if (fault := faults.pop(0) if faults else None) is not None:
            raise fault
        world.swaps.append(models)

    promote_version(world.store, world.first)
    follower = ChampionFollower(world.store, settings_of(world.root), swap)
    assert not follower.look() and world.swaps == [] and follower.models.champion is None
    assert follower.fault == "ValueError: a rule cannot be applied"
    assert follower.look() and world.served() == world.first and len(world.swaps) == 1


def test_a_refused_version_is_tried_again_once_its_files_are_restored(world: World) -> None:
    now = 0.0
    promote_version(world.store, world.first)
    promote_version(world.store, world.second)
    stored = world.root / "store" / "models" / "ranker" / world.second / "model.safetensors"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1])
    settings = settings_of(world.root)
    follower = ChampionFollower(world.store, settings, world.swaps.append, lambda: world.wanted, clock=lambda: now)
    tried = []
    load = follower._load
    follower._load = lambda *given: tried.append(given) or load(*given)  # type: ignore[method-assign,func-returns-value]
    for _ in range(3):
        follower.look()
    assert world.served() == world.first and "differs from its manifest" in follower.refused[world.second].reason
    assert tried == [(world.second, 2), (world.first, 1)], "a version that cannot work is loaded with every look"
    stored.write_bytes(whole)
    assert follower.look() and world.served() == world.second and follower.refused == {}


def test_a_version_refused_for_a_temporary_reason_is_tried_again_less_and_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    promote_version(world.store, world.first)
    follower = ChampionFollower(world.store, settings_of(world.root), world.swaps.append, clock=lambda: now)
    tried = []
    load = ServedModel.load

    def short(*_: object) -> ServedModel:
        tried.append(now)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ServedModel, "load", short)
        for second in range(0, 2000, 10):
            now = float(second)
            follower.look()
    assert tried == [0, 30, 90, 210, 450, 930, 1530] and "MemoryError" in follower.refused[world.first].reason
    monkeypatch.setattr(ServedModel, "load", load)
    now = 2130.0
    assert follower.look() and world.served() == world.first


def test_a_log_that_vanishes_is_a_fault_and_the_champion_stays_in_service(world: World) -> None:
    promote_version(world.store, world.first)
    follower = world.follower()
    assert follower.look() and follower.log_read is not None
    before = follower.log_read
    (world.root / "store" / "promotions").rename(world.root / "gone")
    assert not follower.look() and follower.log_read == before
    assert follower.fault is not None and "is gone" in follower.fault and world.served() == world.first
    (world.root / "gone").rename(world.root / "store" / "promotions")
    assert follower.look() and follower.fault is None


def test_closing_does_not_wait_for_a_version_that_is_being_loaded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, begun = threading.Event(), threading.Event()

    def slow(key: str, path: Path) -> None:
        begun.set()
        gate.wait(60)
        raise StoreUnavailableError("away")

    promote_version(world.store, world.first)
    monkeypatch.setattr(world.store, "fetch", slow)
    follower = world.follower()
    follower.start()
    assert begun.wait(60)
    follower.close(0.05)
    assert follower._loop.alive
    gate.set()
    follower.close(60)
    assert not follower._loop.alive


def test_the_log_is_followed_until_it_is_closed(world: World) -> None:
    seen = threading.Event()
    promote_version(world.store, world.first)
    follower = ChampionFollower(world.store, settings_of(world.root), lambda models: seen.set())
    follower.start()
    assert seen.wait(60)
    follower.close()
    follower.close()
