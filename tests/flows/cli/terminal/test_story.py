"""A run tells its story once: its stages and warnings, without what Prefect says of each flow and task."""

from __future__ import annotations

import logging

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from configs.errors import SettingsError
from flows.cli.terminal import chosen_verbosity, listening, tell_runs
from flows.cli.terminal.verbosity import Verbosity
from infra.progress import report, stage, step
from tests.flows.cli.test_main import recsys


@task(cache_policy=NO_CACHE)
def read(fails: bool) -> None:
    log = get_run_logger()
    log.info("%d rows read", 100)
    log.warning("b.csv is left for a later run")
    log.info("epoch %d", 1, extra=step("train", 1, 1))
    if fails:
        raise SettingsError("seed is not a number.")


@flow
def reading(fails: bool) -> None:
    with stage("etl"):
        read(fails)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]


def test_a_run_tells_its_stages_and_warnings_and_leaves_its_error_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(logging.getLogger().handlers)
    with listening():
        tell_runs()
        reading(False)
        assert told(capsys) == ["100 rows read", "Warning: b.csv is left for a later run", "epoch 1"]
        with pytest.raises(SettingsError):
            reading(True)
        assert told(capsys) == ["100 rows read", "Warning: b.csv is left for a later run", "epoch 1"]
    assert sorted(map(id, logging.getLogger().handlers)) == sorted(map(id, before)), "Prefect's own handlers are back"


def test_what_is_not_a_run_of_prefect_tells_its_steps_too(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(), stage("setup"):
        report("setup", 3, 9, "the work pools and queues are there")
    assert told(capsys) == ["the work pools and queues are there"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], Verbosity.STORY), (["-q"], Verbosity.QUIET), (["--quiet"], Verbosity.QUIET), (["--verbose"], Verbosity.VERBOSE)],
)
def test_every_command_can_be_quiet_or_verbose(given: list[str], expected: Verbosity, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Verbosity] = []
    monkeypatch.setattr(
        "flows.cli.config.model_of", lambda command: seen.append(chosen_verbosity()) or (_ for _ in ()).throw(SystemExit)
    )
    recsys("config", "show", *given)
    assert seen == [expected]


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys("config", "show", "-q", "-v") == 2
    assert "exclude each other" in " ".join(capsys.readouterr().err.split())


def test_a_quiet_command_says_nothing_but_its_result(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        tell_runs()
        reading(False)
        print("the result")

    monkeypatch.setattr("flows.cli.config.model_of", lambda command: run() or (_ for _ in ()).throw(SystemExit))
    recsys("config", "show", "--quiet")
    assert capsys.readouterr() == ("the result\n", "")
