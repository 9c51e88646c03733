"""Shows what is under way: one live line on a terminal, lines now and then in a pipe or a log file, or nothing.

Everything goes to stderr.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from time import monotonic, strftime
from typing import TYPE_CHECKING

from flows.cli.terminal.verbosity import Verbosity, chosen_verbosity

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from infra.progress import Step

__all__ = ["READY", "Display", "LiveLine", "PlainLines", "Row", "close_display", "current_display", "in_words"]

FIRST_LIVE_S = 1.0  # what is over sooner is not shown
FIRST_LINE_S = 10.0  # of silence, before a line in a pipe says that the work goes on; then twice as long
READY_S = 30.0  # the same, before the first stage
MOST_SILENT_S = 60.0
STEPS_S = 10.0  # between two lines about steps of one stage in a pipe
BAR = 24
READY = "getting ready"
"""What a command does before its first stage: it starts a server, and loads the product."""


@dataclass
class Row:
    """A stage that is under way."""

    name: str
    begun: float
    lasts: bool  # until it is said to be over. Otherwise, until its last step.
    step: Step | None = None
    at: float = 0.0  # time of the newest step
    first: tuple[float, float] | None = None  # time and amount of the first step
    said: str = ""
    told: bool = True  # whether `said` has been printed
    spoke: float = 0.0  # time of the last line
    stepped: float = 0.0  # time of the last line about a step
    silence_s: float = FIRST_LINE_S

    def advance(self, step: Step, said: str, now: float) -> None:
        """Record a step."""
        self.first = self.first or (now, step.done)
        self.step, self.said, self.told, self.at = step, said, False, now

    def left_s(self, now: float) -> float | None:
        """Return the seconds left at the pace of the steps until now. None: nobody knows."""
        if self.step is None or self.first is None or self.step.done >= self.step.total:
            return None
        since, before = self.first
        if self.step.done == before:  # one step: its own time is known if it is the first of all
            since, before = (self.begun, 0.0) if 0 < self.step.done <= 1 else (now, self.step.done)
        if self.step.done <= before:
            return None
        pace = (self.at - since) / (self.step.done - before)
        return max(pace * (self.step.total - self.step.done) - (now - self.at), 0.0)


class Display:
    """Shows nothing, as --quiet asks. The base of those that show something."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._lock = threading.RLock()

    def begin(self, name: str) -> None:
        """Say that a stage begins."""
        with self._lock:
            now = monotonic()
            self.rows.pop(READY, None)
            self.rows[name] = _row(name, now, lasts=True)
            self._changed()

    def advance(self, step: Step, said: str) -> None:
        """Say that a stage has come one step further. `said` is what there is to say about the step."""
        with self._lock:
            now = monotonic()
            self.rows.pop(READY, None)
            row = self.rows.setdefault(step.of, _row(step.of, now, lasts=False))
            row.advance(step, said, now)
            self._stepped(row, now)
            if not row.lasts and step.done >= step.total:
                self.end(step.of)
            self._changed()

    def end(self, name: str) -> None:
        """Say that a stage is over."""
        with self._lock:
            row = self.rows.pop(name, None)
            if row is not None and not row.told:
                self.message(row.said)
            self._changed()

    def message(self, said: str) -> None:
        """Print a line of the story."""

    def aside(self) -> None:
        """Make way for the result, which another stream of the same terminal may show."""

    def close(self) -> None:
        """Show nothing from now on."""
        for name in list(self.rows):
            self.end(name)
        self.aside()

    def _stepped(self, row: Row, now: float) -> None:
        """React to a step of a row."""

    def _changed(self) -> None:
        """React to another set of rows."""


class PlainLines(Display):
    """Lines for a pipe or a log file, at a sensible rate: the steps of a stage every few seconds, and a word after a long silence."""

    def __init__(self, steps_s: float = STEPS_S) -> None:
        super().__init__()
        self.steps_s = steps_s
        self._over = threading.Event()
        self._watch: threading.Thread | None = None

    def message(self, said: str) -> None:
        for row in self.rows.values():
            row.spoke = monotonic()
        print(f"{strftime('%H:%M:%S')} {_safe(said)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        super().close()
        self._over.set()

    def silence(self, now: float) -> None:
        """Say of the newest stage that it is still under way, if nothing has been said for long."""
        with self._lock:
            row = next(reversed(self.rows.values()), None)
            if row is None or now - row.spoke < row.silence_s:
                return
            row.silence_s = min(2 * row.silence_s, MOST_SILENT_S)
            self.message(f"{row.name}: {in_words(now - row.begun)} so far{_left(row, now)}")

    def _stepped(self, row: Row, now: float) -> None:
        if now - row.stepped >= self.steps_s:
            row.told, row.stepped = True, now
            self.message(f"{row.said}{_left(row, now)}")

    def _changed(self) -> None:
        if self.rows and self._watch is None:
            self._watch = threading.Thread(target=self._speak_up, name="progress", daemon=True)
            self._watch.start()

    def _speak_up(self) -> None:
        while not self._over.wait(1.0):
            self.silence(monotonic())


class LiveLine(Display):
    """A live line on a terminal for each stage under way. The lines of the story scroll above it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.spinner import Spinner

        self.console = Console(stderr=True)
        self._live: Live | None = None
        self._spinner = Spinner("dots")  # one for all, because it knows when it began to turn

    def message(self, said: str) -> None:
        from rich.text import Text

        with self._lock:
            style = "yellow" if said.startswith("Warning: ") else ""
            self.console.print(Text.assemble((strftime("%H:%M:%S "), "dim"), (_safe(said), style)), soft_wrap=True)

    def aside(self) -> None:
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _changed(self) -> None:
        if not self.rows:
            self.aside()
        elif self._live is None:
            from rich.live import Live

            self._live = Live(
                get_renderable=self.shown, console=self.console, transient=True, refresh_per_second=5, redirect_stdout=False
            )
            self._live.start()

    def shown(self) -> RenderableType:
        """Return the rows as they look now."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now = monotonic()
        lines: list[RenderableType] = []
        for row in list(self.rows.values()):
            if now - row.begun < FIRST_LIVE_S:
                continue
            line = Table.grid(padding=(0, 1))
            cells: list[RenderableType] = [self._spinner, Text(row.name, style="bold")]
            if row.step is not None:
                cells.append(ProgressBar(row.step.total, row.step.done, width=BAR))
            cells.append(Text(f"{in_words(now - row.begun)}{_left(row, now)}"))
            line.add_row(*cells)
            lines.append(line)
            if row.said:
                lines.append(Text(f"  {_safe(row.said)}", style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


def _row(name: str, now: float, *, lasts: bool) -> Row:
    silence_s = READY_S if name == READY else FIRST_LINE_S
    return Row(name, now, lasts, spoke=now, stepped=now, silence_s=silence_s)


def in_words(seconds: float) -> str:
    """Return a duration as a person says it."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _safe(said: str) -> str:
    """Show control characters as escapes: the text may quote titles, reasons and file names."""
    from infra.pages import visible

    return visible(said)


def _left(row: Row, now: float) -> str:
    left = row.left_s(now)
    return "" if left is None else f", about {in_words(left)} left"


_display: Display | None = None


def current_display() -> Display:
    """Return the display of this command, for its stderr and its verbosity."""
    global _display
    if _display is None:
        _display = _made()
    return _display


def close_display() -> None:
    """End the display of this command, if it has one."""
    global _display
    shown, _display = _display, None
    if shown is not None:
        shown.close()


def _made() -> Display:
    if chosen_verbosity() is Verbosity.QUIET:
        return Display()
    if chosen_verbosity() is Verbosity.VERBOSE:
        return PlainLines(steps_s=0.0)
    if not sys.stderr.isatty():
        return PlainLines()
    from rich.console import Console

    return PlainLines() if Console(stderr=True).is_dumb_terminal else LiveLine()
