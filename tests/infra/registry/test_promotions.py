from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import AlreadyExistsError, ChampionMissingError, NotFoundError, RecsysError, VersionCorruptError
from infra.registry import ModelRef, ModelRegistry
from infra.storage.local import LocalStore
from tests.tasks.stored import NAME, NOW, sealed


def accept(ref: ModelRef) -> None:
    """Let the check pass."""


def test_the_champion_is_the_newest_entry(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    assert registry.champion(NAME) is None
    versions = [sealed(store, tmp_path / f"m{hour}", hour=hour).version for hour in range(3)]
    for number, version in enumerate(versions):
        entry = registry.promote(NAME, version, expected=number, reason="better", now=NOW)
        assert (entry.number, entry.previous) == (number + 1, versions[number - 1] if number else None)
    current = registry.champion(NAME)
    assert current is not None and current.version == versions[2] and "@" in current.who
    assert [entry.version for entry in registry.history(NAME)] == versions


def test_a_promotion_against_an_old_champion_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    first, second = (sealed(store, tmp_path / f"m{hour}", hour=hour).version for hour in range(2))
    registry.promote(NAME, first, expected=0, reason="", now=NOW)
    with pytest.raises(AlreadyExistsError, match="got another champion while"):
        registry.promote(NAME, second, expected=0, reason="", now=NOW)
    assert len(registry.history(NAME)) == 1


def test_a_version_that_was_never_sealed_cannot_be_champion(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    with pytest.raises(NotFoundError):
        registry.promote(NAME, "nope", expected=0, reason="", now=NOW)
    version = sealed(store, tmp_path / "m").version
    registry.promote(NAME, version, expected=0, reason="", now=NOW)
    store.delete(f"models/{NAME}/{version}/manifest.json")
    with pytest.raises(VersionCorruptError, match=version):
        registry.champion(NAME)
    store.put(f"promotions/{NAME}/00000001.json", b"{}")
    with pytest.raises(VersionCorruptError, match="damaged"):
        registry.champion(NAME)


def test_a_user_without_a_name_can_promote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    version = sealed(store, tmp_path / "m").version
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_123)
    assert ModelRegistry(store).promote(NAME, version, expected=0, reason="", now=NOW).who.startswith("2000000123@")


def test_rollback_returns_to_the_champion_before_and_can_go_back_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    with pytest.raises(ChampionMissingError, match="no champion yet"):
        registry.rollback(NAME, to=None, reason="", now=NOW, check=accept)
    first, second = (sealed(store, tmp_path / f"m{hour}", hour=hour).version for hour in range(2))
    registry.promote(NAME, first, expected=0, reason="", now=NOW)
    with pytest.raises(ChampionMissingError, match="only one champion"):
        registry.rollback(NAME, to=None, reason="", now=NOW, check=accept)
    registry.promote(NAME, second, expected=1, reason="", now=NOW)
    with pytest.raises(ChampionMissingError, match="champion already"):
        registry.rollback(NAME, to=second, reason="", now=NOW, check=accept)
    back = registry.rollback(NAME, to=None, reason="worse in production", now=NOW, check=accept)
    assert (back.version, back.kind, back.previous, back.number) == (first, "rollback", second, 3)
    assert registry.rollback(NAME, to=second, reason="", now=NOW, check=accept).version == second


@pytest.mark.parametrize(
    ("steps", "returned_to"),
    [
        ("A B C", ["B", "A"]),
        ("A B C < D", ["B", "A"]),  # C was rolled back, so D falls back to B
        ("A B C <A", []),  # B was skipped: nobody knows whether it was good
        ("A B C < <C", ["A"]),  # B was rolled back
        ("A B C < C", ["B", "A"]),  # C was promoted again, and counts again
        ("A B A", ["B"]),  # one version was champion twice: a rollback passes over both times
    ],
)
def test_rollbacks_go_further_back_and_never_to_a_version_that_was_rolled_back(
    steps: str, returned_to: list[str], tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    versions = {name: sealed(store, tmp_path / name, hour=hour).version for hour, name in enumerate("ABCD")}
    for step in steps.split():
        if step.startswith("<"):
            registry.rollback(NAME, to=versions.get(step[1:]), reason="", now=NOW, check=accept)
        else:
            registry.promote(NAME, versions[step], expected=len(registry.history(NAME)), reason="", now=NOW)
    for name in returned_to:
        assert registry.rollback(NAME, to=None, reason="", now=NOW, check=accept).version == versions[name]
    with pytest.raises(ChampionMissingError, match=r"not rolled back itself\. .* name it: `recsys model rollback --to VERSION"):
        registry.rollback(NAME, to=None, reason="", now=NOW, check=accept)


def test_a_rollback_whose_check_fails_changes_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    registry = ModelRegistry(store)
    versions = [sealed(store, tmp_path / f"m{hour}", hour=hour).version for hour in range(2)]
    for number, version in enumerate(versions):
        registry.promote(NAME, version, expected=number, reason="", now=NOW)

    def refuse(ref: ModelRef) -> None:
        raise RecsysError("does not load")

    with pytest.raises(RecsysError, match="does not load"):
        registry.rollback(NAME, to=None, reason="", now=NOW, check=refuse)
    with pytest.raises(NotFoundError):
        registry.rollback(NAME, to="nope", reason="", now=NOW, check=accept)
    assert len(registry.history(NAME)) == 2
