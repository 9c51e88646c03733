"""A frozen model: what its log allows and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import ChampionMissingError, FrozenError, VersionCorruptError
from infra.registry import ModelRef, ModelRegistry, freeze, thaw
from infra.storage.local import LocalStore
from tests.tasks.stored import NAME, NOW, sealed


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def versions(store: LocalStore, tmp_path: Path) -> list[ModelRef]:
    return [sealed(store, tmp_path / f"m{hour}", hour=hour) for hour in range(3)]


def promote(store: LocalStore, ref: ModelRef, kind: str = "promote", expected: int | None = None) -> int:
    registry = ModelRegistry(store)
    newest = registry.newest(NAME)
    number = (newest.number if newest else 0) if expected is None else expected
    return registry.promote(NAME, ref.version, expected=number, kind=kind, reason="better", now=NOW).number  # type: ignore[arg-type]


def test_nothing_is_promoted_while_frozen_and_all_goes_on_when_thawed(store: LocalStore, versions: list[ModelRef]) -> None:
    promote(store, versions[0])
    frozen = freeze(store, NAME, reason="checkout is broken", now=NOW)
    assert (frozen.number, frozen.kind, frozen.version) == (2, "freeze", versions[0].version)
    for kind in ("promote", "force"):
        with pytest.raises(FrozenError, match=r"ranker is frozen since 2026-01-01.*\(checkout is broken\).*until `recsys thaw"):
            promote(store, versions[1], kind)
    with pytest.raises(FrozenError, match="already"):
        freeze(store, NAME, reason="again", now=NOW)
    assert len(ModelRegistry(store).history(NAME)) == 2, "a refusal leaves no entry"
    assert thaw(store, NAME, reason="it works again", now=NOW).frozen is None
    assert promote(store, versions[1]) == 4
    with pytest.raises(FrozenError, match="not frozen"):
        thaw(store, NAME, reason="", now=NOW)


def test_a_promotion_that_was_decided_before_the_freeze_is_refused_as_frozen(store: LocalStore, versions: list[ModelRef]) -> None:
    promote(store, versions[0])
    freeze(store, NAME, reason="checkout is broken", now=NOW)
    with pytest.raises(FrozenError, match="checkout is broken"):
        promote(store, versions[1], expected=1)


def test_a_frozen_model_can_be_rolled_back_and_stays_frozen(store: LocalStore, versions: list[ModelRef]) -> None:
    promote(store, versions[0])
    promote(store, versions[1])
    freeze(store, NAME, reason="clicks fell", now=NOW)
    back = ModelRegistry(store).rollback(NAME, to=None, reason="clicks fell", now=NOW, check=lambda ref: None)
    assert back.version == versions[0].version and back.frozen is not None and back.frozen.reason == "clicks fell"
    with pytest.raises(FrozenError):
        promote(store, versions[2])


def test_the_entry_of_a_freeze_keeps_what_the_gate_decided_and_is_chained(store: LocalStore, versions: list[ModelRef]) -> None:
    registry = ModelRegistry(store)
    first = versions[0].version
    registry.promote(NAME, first, expected=0, reason="", now=NOW, decision={"margin_from": first})
    entry = freeze(store, NAME, reason="checkout is broken", now=NOW)
    assert entry.decision == {"margin_from": first} and [each.number for each in registry.history(NAME)] == [1, 2]
    key = f"promotions/{NAME}/00000001.json"
    store.put(key, store.get(key).replace(b"margin_from", b"margin_fro2"))
    with pytest.raises(VersionCorruptError, match="was changed"):
        registry.history(NAME)


def test_an_entry_that_neither_freezes_nor_rolls_out_is_written_as_before(store: LocalStore, versions: list[ModelRef]) -> None:
    promote(store, versions[0])
    entry = json.loads(store.get(f"promotions/{NAME}/00000001.json"))
    assert not {"rollout", "frozen"} & entry.keys(), "programs that read the log find what they found"


def test_a_model_without_a_champion_cannot_be_frozen(store: LocalStore) -> None:
    with pytest.raises(ChampionMissingError, match="nothing to freeze"):
        freeze(store, NAME, reason="", now=NOW)
