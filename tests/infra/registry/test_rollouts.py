"""The steps of a rollout in the promotion log."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from configs.errors import AlreadyExistsError, FrozenError, RecsysError, VersionCorruptError
from configs.settings import RolloutSettings
from infra.registry import (
    ModelRef,
    ModelRegistry,
    Promotion,
    abort_rollout,
    advance_rollout,
    begin_rollout,
    freeze,
    previous_champions,
    thaw,
)
from infra.storage.local import LocalStore
from tests.tasks.stored import NAME, NOW, sealed

SETTINGS = RolloutSettings(enabled=True, settle_s=60)


class Log:
    """A store with four versions, of which the first is champion."""

    def __init__(self, root: Path) -> None:
        self.store = LocalStore(root / "store")
        self.registry = ModelRegistry(self.store)
        self.refs = [sealed(self.store, root / f"m{hour}", hour=hour) for hour in range(4)]
        self.registry.promote(NAME, self.refs[0].version, expected=0, reason="first", now=NOW)

    def newest(self) -> Promotion:
        entry = self.registry.newest(NAME)
        assert entry is not None
        return entry

    def begin(self, ref: ModelRef) -> Promotion:
        expected = self.newest().number
        return begin_rollout(
            self.store, ref, SETTINGS, expected=expected, reason="better", now=NOW, decision={"outcome": "promoted"}
        )

    def advance(self) -> Promotion:
        return advance_rollout(self.store, self.newest(), reason="nothing worse", now=NOW)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_rollout_goes_from_stage_to_stage_until_the_new_version_serves_everybody(log: Log) -> None:
    begun = log.begin(log.refs[1])
    assert begun.rolling_out is not None and begun.rolling_out.old == log.refs[0].version and begun.version == log.refs[1].version
    since = begun.rolling_out.since
    assert since == int(NOW.timestamp()) + 60 and begun.rolling_out.entry == 2
    assert [begun.rolling_out.share_at(at) for at in (since - 1, since)] == [0.0, 0.05]
    second, last = log.advance(), log.advance()
    assert second.rolling_out is not None and second.rollout is not None and second.rollout.share_at(since - 1) == 0.05
    assert second.rolling_out.share == 0.25 and second.decision == {"outcome": "promoted"}
    assert (
        last.rolling_out is None
        and last.rollout is not None
        and not last.rollout.is_over(since - 1)
        and last.rollout.is_over(since)
    )
    assert [entry.kind for entry in log.registry.history(NAME)] == ["promote", "promote", "advance", "advance"]
    with pytest.raises(RecsysError, match="serves everybody"):
        log.advance()
    assert previous_champions(log.registry.history(NAME)) == [log.refs[0].version]


def test_a_returned_version_is_not_what_a_rollback_returns_to(log: Log) -> None:
    log.begin(log.refs[1])
    back = abort_rollout(log.store, log.newest(), reason="errors", now=NOW)
    assert (back.kind, back.version, back.rollout) == ("return", log.refs[0].version, None)
    log.registry.promote(NAME, log.refs[2].version, expected=back.number, reason="better", now=NOW)
    assert previous_champions(log.registry.history(NAME)) == [log.refs[0].version]


def test_a_promotion_during_a_rollout_takes_its_place_against_the_same_old_version(log: Log) -> None:
    log.begin(log.refs[1])
    second = log.begin(log.refs[2])
    assert second.rolling_out is not None and second.rolling_out.old == log.refs[0].version and second.rolling_out.stage == 0
    assert previous_champions(log.registry.history(NAME)) == [log.refs[0].version], "the one in between never served everybody"


def test_a_step_that_two_processes_decide_on_is_taken_once(log: Log) -> None:
    begun = log.begin(log.refs[1])
    advance_rollout(log.store, begun, reason="one", now=NOW)
    with pytest.raises(AlreadyExistsError, match="got another entry meanwhile"):
        advance_rollout(log.store, begun, reason="the other", now=NOW + timedelta(seconds=1))
    with pytest.raises(AlreadyExistsError):
        abort_rollout(log.store, begun, reason="the other", now=NOW)
    assert len(log.registry.history(NAME)) == 3


def test_a_frozen_rollout_stays_at_its_stage_and_can_return(log: Log) -> None:
    begun = log.begin(log.refs[1])
    frozen = freeze(log.store, NAME, reason="checkout is broken", now=NOW)
    assert frozen.rollout == begun.rollout, "what servers act on does not change"
    with pytest.raises(FrozenError, match="waits at its stage"):
        log.advance()
    thawed = thaw(log.store, NAME, reason="works again", now=NOW)
    assert thawed.rollout == begun.rollout and log.advance().rolling_out is not None
    freeze(log.store, NAME, reason="again", now=NOW)
    back = abort_rollout(log.store, log.newest(), reason="errors", now=NOW)
    assert back.version == log.refs[0].version and back.frozen is not None


def test_an_old_version_that_was_edited_is_not_returned_to(log: Log) -> None:
    log.begin(log.refs[1])
    key = f"{log.refs[0].prefix}/manifest.json"
    log.store.put(key, log.store.get(key) + b"\n")
    with pytest.raises(VersionCorruptError, match="changed"):
        abort_rollout(log.store, log.newest(), reason="errors", now=NOW)
