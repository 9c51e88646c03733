"""kill -9 at every write of a publication, a promotion and a rollback: the champion is whole, and a plain re-run succeeds."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from configs.errors import ChampionMissingError
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tests.doubles.kill_points import killed_at_each_write
from tests.tasks.stored import NAME, NOW, check_whole, go_back, publish_and_promote, publish_in, sealed, stage_popularity


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a champion, and beside it a trained model."""
    root = tmp_path_factory.mktemp("crash")
    store = LocalStore(root / "store")
    first = sealed(store, root / "m")
    ModelRegistry(store).promote(NAME, first.version, expected=0, reason="the first", now=NOW)
    stage_popularity(LocalStore(root / "elsewhere"), root / "trained", hour=1)
    return root


def copies(made: Path, tmp_path: Path) -> Callable[[int], Path]:
    return lambda number: Path(shutil.copytree(made / "store", tmp_path / f"store-{number}"))


def objects(store: LocalStore) -> dict[str, str]:
    return {key: hashlib.sha256(store.get(key)).hexdigest() for key in store.list()}


@pytest.mark.full
def test_a_run_killed_at_any_write_leaves_a_whole_champion_and_can_be_repeated(made: Path, tmp_path: Path) -> None:
    first = ModelRegistry(LocalStore(made / "store")).versions(NAME)[0]
    before = objects(LocalStore(made / "store"))
    prepare = copies(made, tmp_path)
    seen: list[tuple[int, int]] = []
    for folder in killed_at_each_write(partial(publish_in, trained=made / "trained"), prepare):
        store = LocalStore(folder)
        registry = ModelRegistry(store)
        current, versions = registry.champion(NAME), registry.versions(NAME)
        assert current is not None and versions[0].version == first.version
        seen.append((current.number, len(versions)))
        assert current.version == (first.version if current.number == 1 else versions[1].version)
        for ref in versions:  # the leftovers of the killed run do not count as a version
            registry.verify(ref)
        check_whole(store, next(ref for ref in versions if ref.version == current.version))
        again = publish_and_promote(store, made / "trained", hours=1)
        now = registry.champion(NAME)
        assert now is not None and now.version == again.version and now.number == current.number + 1
        check_whole(store, again)
        assert [entry.number for entry in registry.history(NAME)] == list(range(1, now.number + 1))
        after = objects(store)
        assert {key: after[key] for key in before} == before, "something that was stored is lost"
        shutil.rmtree(folder)
    # All three states were met, in this order, so the kills did reach from the first write to the last.
    assert set(seen) == {(1, 1), (1, 2), (2, 2)} and seen == sorted(seen)
    puts = len(ModelRegistry(LocalStore(made / "store")).manifest(NAME, first.version)["files"]) + 2  # the manifest and the entry
    assert len(seen) >= 4 * puts  # opened, half-written, linked, its temporary name removed


def test_a_rollback_killed_at_any_write_has_happened_completely_or_not_at_all(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "made"
    shutil.copytree(made, root)
    second = publish_and_promote(LocalStore(root / "store"), root / "trained")
    first = ModelRegistry(LocalStore(root / "store")).versions(NAME)[0]

    story = partial(go_back, to=first.version)
    seen = []
    for folder in killed_at_each_write(story, copies(root, tmp_path)):
        store = LocalStore(folder)
        registry = ModelRegistry(store)
        current = registry.champion(NAME)
        assert current is not None
        seen.append(current.version)
        if current.version == second.version:
            story(folder)
        else:
            with pytest.raises(ChampionMissingError, match="is the champion already"):
                story(folder)
        entries = registry.history(NAME)
        assert [entry.version for entry in entries] == [first.version, second.version, first.version]
        check_whole(store, first)
        shutil.rmtree(folder)
    assert seen[0] == second.version and seen[-1] == first.version and len(seen) >= 4
