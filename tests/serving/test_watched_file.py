"""A watched file is read when it is complete, is refused in one sentence if it cannot be used, and never delays a request."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import serving.watched_file
from configs.errors import SettingsError
from configs.serving import RuleFile
from serving.reranking import Rules
from serving.watched_file import WatchedFile
from tests.serving.reranking.test_rules import catalogue

HIDE_ONE = "rules: [{name: gone, action: exclude, where: {items: [1]}}]\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text("min_popularity: 1")
    return path


def watch(path: Path) -> WatchedFile[RuleFile, Rules]:
    return Rules.watch(path, settled_s=0)


def seen(watched: WatchedFile[RuleFile, Rules]) -> float:
    return watched.current().file.min_popularity


def test_a_change_takes_effect_once_two_looks_have_read_the_same(path: Path) -> None:
    watched = watch(path)
    path.write_text("min_popularity: 2")
    assert seen(watched) == 1 and watched.look() and seen(watched) == 1
    path.write_text("min_popularity: 3")  # its writer was not done
    assert watched.look() and seen(watched) == 1
    assert watched.look() and seen(watched) == 3 and watched.reloads == 1
    path.write_text("min_popularity: 2")
    watched.look()
    path.write_text("min_popularity: 3")  # back again, between two looks
    assert watched.look() and watched.look() and seen(watched) == 3 and watched.reloads == 1


@pytest.mark.parametrize("left", ["", "\n", "# the shop's rules\n", "# a\n\n  # b"])
def test_a_file_that_is_truncated_before_it_is_written_lifts_no_exclusion(path: Path, left: str) -> None:
    path.write_text(HIDE_ONE)
    watched = watch(path)
    path.write_text(left)
    for _ in range(5):
        watched.look()
        assert [rule.name for rule in watched.current().file.rules] == ["gone"]
    assert watched.fault is not None and "is empty" in watched.fault and "write {}" in watched.fault
    path.write_text("{}")
    assert not watched.look() and watched.look() and watched.current().file.rules == () and watched.fault is None


@pytest.mark.parametrize(
    "content",
    [
        b"min_popularity: [",
        b"rules: [{name: r, action: pin, items: [1], during: {start: 2026-11-31}}]",
        b"a: " + b"[" * 5000,
        b"? {a: 1}\n: 2",
        b"min_popularity: 1\nmin_popularity: 2",
        b"a: &a [1, 1]\nb: [*a, *a]",
        b"\xff\xfe\x00",
        b"rules: [{name: r, action: pin, items: [" + b"9" * 5000 + b"]}]",
        b"rules: [{name: r, action: pin, items: [100000000000000000000]}]",
        b"!!python/object/apply:os.system [true]",
        b"--- 1\n--- 2",
        b"just text",
    ],
)
def test_whatever_a_file_holds_the_last_good_rules_stay_and_the_fault_is_one_sentence(path: Path, content: bytes) -> None:
    watched = watch(path)
    path.write_bytes(content)
    for _ in range(3):
        watched.look()
    assert seen(watched) == 1 and watched.fault is not None
    assert "rules.yaml" in watched.fault and "\n" not in watched.fault and len(watched.fault) < 1000
    path.write_text("min_popularity: 1")
    assert watched.look() and watched.fault is None


@pytest.mark.parametrize(
    "code", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE, errno.ENOENT, errno.ENOSPC, errno.ELOOP, errno.EINTR]
)
def test_a_file_that_cannot_be_read_for_a_while_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    watched = watch(path)

    def failing(self: Path, *_: object, **__: object) -> object:
        raise OSError(code, os.strerror(code), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing)
        assert not watched.look() and not watched.look()
    assert seen(watched) == 1 and watched.fault is not None and "rules.yaml" in watched.fault
    assert watched.look() and watched.fault is None and watched.reloads == 0


def test_the_content_that_was_compared_is_the_one_that_is_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(path)
    read = serving.watched_file.read_settings_file

    def then_replaced(file: Path) -> bytes:
        content = read(file)
        file.write_text("min_popularity: 9")  # between reading and parsing
        return content

    path.write_text("min_popularity: 2")
    watched.look()
    with monkeypatch.context() as patch:
        patch.setattr(serving.watched_file, "read_settings_file", then_replaced)
        watched.look()
    assert seen(watched) == 2
    assert watched.look() and watched.look() and seen(watched) == 9


def test_a_refused_file_is_parsed_once_and_its_reason_comes_back_with_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(path)
    parsed = []
    parse = serving.watched_file.settings_in
    monkeypatch.setattr(serving.watched_file, "settings_in", lambda *given: parsed.append(given) or parse(*given))
    path.write_text("min_popularity: many")
    for _ in range(5):
        watched.look()
    assert len(parsed) == 1
    path.unlink()
    assert not watched.look() and watched.fault is not None and "does not exist" in watched.fault
    path.write_text("min_popularity: many")
    watched.look()
    assert not watched.look() and watched.fault is not None and "min_popularity" in watched.fault and len(parsed) == 1


def test_content_that_cannot_be_prepared_does_not_take_effect_and_is_tried_again(path: Path) -> None:
    broken = [ValueError("this catalogue is odd"), None]

    def prepare(rules: Rules) -> None:
        if (error := broken.pop(0)) is not None:
            raise error

    watched = Rules.watch(path, settled_s=0, prepare=prepare)
    path.write_text("min_popularity: 2")
    watched.look()
    with pytest.raises(ValueError, match="odd"):  # a bug: the thread that looks logs and counts it
        watched.look()
    assert seen(watched) == 1 and watched.fault is not None and "ValueError: this catalogue is odd" in watched.fault
    assert watched.look() and seen(watched) == 2 and watched.fault is None


def test_at_the_start_a_file_that_is_just_being_written_is_read_until_it_stays_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = iter(["min_popularity: 2\nseen: show\n"])
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        path.write_text(next(rest, path.read_text()))

    clock = SimpleNamespace(time=time.time, sleep=sleep)
    monkeypatch.setattr(serving.watched_file, "time", clock)
    path.write_text("min_popularity: 2\n")
    assert Rules.watch(path, settled_s=3600).current().file.seen == "show" and slept == [3600, 3600]
    os.utime(path, (0, 0))  # nobody has written it for long
    assert Rules.watch(path, settled_s=3600).current().file.seen == "show" and len(slept) == 2
    path.write_text("min_popularity: 2\n")
    clock.sleep = lambda seconds: path.write_text(path.read_text() + "#")
    with pytest.raises(SettingsError, match="keeps changing"):
        Rules.watch(path, settled_s=3600)


@pytest.mark.parametrize(("content", "said"), [("", "is empty"), (None, "does not exist")])
def test_a_server_does_not_start_without_the_rules_it_was_given(path: Path, content: str | None, said: str) -> None:
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(SettingsError, match=said):
        watch(path)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(SettingsError, match="is not a file"):  # reading it would take for ever
        watch(path)


def test_asking_for_the_current_rules_neither_reads_nor_parses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"rules": [{"name": "blocked", "action": "exclude", "where": {"items": list(range(20_000))}}]}
    films = catalogue()
    watched = Rules.watch(path, settled_s=0, prepare=lambda made: made.warm(films))
    path.write_text(yaml.dump(rules, Dumper=yaml.CSafeDumper))
    with monkeypatch.context() as patch:
        patch.setattr(serving.watched_file, "read_settings_file", lambda path: pytest.fail("it was read"))
        assert seen(watched) == 1
    assert watched.look() and watched.look()
    with monkeypatch.context() as patch:
        patch.setattr(np, "isin", lambda *_: pytest.fail("a mask was built by a request"))
        watched.current().warm(films)
    assert len(watched.current().file.rules) == 1
