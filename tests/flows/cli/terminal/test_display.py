"""What a person sees while a command works: a live line on a terminal, and lines at a sensible rate in a pipe."""

from __future__ import annotations

import io
import re
from time import monotonic, sleep

import pytest
from rich.console import Console

import flows.cli.terminal.display as module
from flows.cli.terminal.display import READY, LiveLine, PlainLines, in_words
from infra.progress import Step

SPEAK_UP = PlainLines._speak_up  # tests/flows/conftest.py replaces it


class Clock:
    """A clock that only the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    monkeypatch.setattr(module, "strftime", lambda form: "12:00:00")
    return clock


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> PlainLines:
    monkeypatch.setattr(PlainLines, "_changed", lambda self: None)  # the test asks for the words after a silence
    return PlainLines()


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.removeprefix("12:00:00 ") for line in capsys.readouterr().err.splitlines()]


def test_a_pipe_gets_a_step_every_ten_seconds_with_the_time_left_and_the_last_one(
    clock: Clock, lines: PlainLines, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.begin("train ss4rec")
    for epoch in range(1, 31):
        clock.now += 1
        lines.advance(Step("train ss4rec", epoch, 100), f"epoch {epoch}")
    assert said(capsys) == ["epoch 10, about 90 s left", "epoch 20, about 80 s left", "epoch 30, about 70 s left"]
    clock.now += 1
    lines.advance(Step("train ss4rec", 31, 100), "epoch 31")
    lines.end("train ss4rec")  # it stops early
    assert said(capsys) == ["epoch 31"] and not lines.rows


def test_one_slow_step_tells_the_time_left_at_its_own_pace(
    clock: Clock, lines: PlainLines, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.begin("train ss4rec")
    clock.now += 60
    lines.advance(Step("train ss4rec", 1, 4), "epoch 1")
    assert said(capsys) == ["epoch 1, about 3 min left"]


def test_a_resumed_training_is_not_taken_for_a_fast_one(clock: Clock, lines: PlainLines) -> None:
    lines.begin("train")
    clock.now += 10
    lines.advance(Step("train", 50, 100), "epoch 50")
    assert lines.rows["train"].left_s(clock.now) is None, "nobody knows how long an epoch takes"
    clock.now += 10
    lines.advance(Step("train", 51, 100), "epoch 51")
    assert lines.rows["train"].left_s(clock.now) == 490


def test_a_pipe_hears_after_a_long_silence_that_the_work_goes_on(
    clock: Clock, lines: PlainLines, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.begin("evaluate")
    for _ in range(200):
        clock.now += 1
        lines.silence(clock.now)
    assert said(capsys) == [f"evaluate: {after} so far" for after in ("10 s", "30 s", "70 s", "2 min", "3 min")]


def test_steps_of_work_that_is_no_stage_end_with_the_last_one(
    clock: Clock, lines: PlainLines, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.begin(READY)
    lines.advance(Step("download", 1e6, 2e6), "1 of 2 MB")
    assert list(lines.rows) == ["download"], "the command is ready when its first stage begins"
    lines.advance(Step("download", 2e6, 2e6), "2 of 2 MB")
    assert said(capsys) == ["2 of 2 MB"] and not lines.rows


def test_a_terminal_shows_one_line_for_each_stage_with_a_bar_and_the_time_left(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveLine, "_changed", lambda self: None)
    live, out = LiveLine(), io.StringIO()
    live.begin("train ss4rec")
    console = Console(file=out, width=80, force_terminal=False)
    console.print(live.shown())
    assert out.getvalue().strip() == "", "what is over in a second is not shown"
    clock.now += 40
    live.advance(Step("train ss4rec", 2, 6), "loss 6.3, valid NDCG@10 0.0874 \x1b[2J" + 80 * "x")
    clock.now += 10
    live.advance(Step("train ss4rec", 3, 6), "loss 6.1, valid NDCG@10 0.0912")
    console.print(live.shown())
    shown = out.getvalue().strip().splitlines()
    assert re.fullmatch(r"\S train ss4rec [━╸ ]+ 50 s, about 30 s left *", shown[0])
    assert shown[1].strip() == "loss 6.1, valid NDCG@10 0.0912" and len(shown) == 2


def test_the_live_line_makes_way_for_the_result(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveLine()
    live.console = Console(file=io.StringIO(), force_terminal=True)
    live.begin("audit")
    assert live._live is not None
    live.aside()
    assert live._live is None and list(live.rows) == ["audit"]
    live.end("audit")
    assert live._live is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5400, "90 min"), (7300, "2 h 2 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_command_that_says_nothing_for_long_says_by_itself_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PlainLines, "_speak_up", SPEAK_UP)
    monkeypatch.setattr(module, "FIRST_LINE_S", 0.0)
    display, printed, end = PlainLines(), "", monotonic() + 60
    display.begin("etl")
    while "etl: " not in printed and monotonic() < end:
        sleep(0.1)
        printed += capsys.readouterr().err
    display.end("etl")
    display.close()
    assert " so far" in printed
