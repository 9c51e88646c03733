"""A town of regular visitors, the landing zone where their events arrive, and the operator of the product."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.settings import DataSettings, DriftSettings, MonitoringSettings, RetrainSettings, ValidationSettings
from infra.landing_zone import FolderZone
from infra.registry import ModelRef, ModelRegistry
from tasks.datasets import DatasetRef, Removal, list_datasets, plan_prune, prune_versions, verify_dataset
from tasks.gate import Decision, judge_staged, publish, stage_challenger
from tasks.landing import Landing, LandingOptions, compact, land, remove, undo_removal
from tasks.monitoring import DriftResult, monitor_dataset
from tasks.training import train_candidate
from tests.full.operation.truth import Account, Delivery, Described, Event, Truth
from tests.tasks.fed import START, WEEK
from tests.tasks.landed import LAX, NAME, Place
from tests.tasks.world import evaluated

HOUR, DAY = 3600, 86_400
USERS, FILMS, WEEKS_BEFORE = 80, 300, 6
MODEL = "ranker"
DRIFT = DriftSettings(slice_share=0.5)  # everything since the champion's data
QUIET = MonitoringSettings(live_requests=50, evidently=False)
COLUMNS = {"items": ("title", "year", "genres"), "users": ("gender", "age", "occupation", "zip_code")}
RECIPE: dict[str, Any] = {
    "model_name": MODEL,
    "seed": 7,
    "models": {"ncf": None},
    "promotion": {
        "baselines": [],
        "resamples": 1100,
        "sample_requests": 3,
        "min_slice_requests": 20,
    },
}


class Town(Place):
    """A landing zone week by week, with the truth beside it. Each user comes once a week, in the evening, for 5 to 9 films."""

    def __init__(self, folder: Path, seed: int = 3) -> None:
        super().__init__(folder, allowed_lateness_s=DAY, give_up_s=2.0 * DAY, compact_parts=3)
        self.data = DataSettings(dataset=NAME, timestamp_format="s")  # so that another unit is a fault
        self.compared = 0  # times that a version was compared with the truth
        self.truth = Truth(self.settings.allowed_lateness_s)
        self.week = -1
        self.open: Callable[[Path], FolderZone] = FolderZone
        self.draw = random.Random(seed)
        self.unseen = {user: self.draw.sample(range(1, FILMS + 1), FILMS) for user in range(1, USERS + 1)}
        self.recipe = RetrainSettings.model_validate(
            {**RECIPE, "store": {"url": f"file:{folder}/store"}, "work_dir": str(folder / "work")}
        )
        history: list[Event] = []
        for _ in range(WEEKS_BEFORE):
            history += self.next_week()
        self.deliver("history.csv", history)
        films: list[Described] = [(film, None, film_of(film)) for film in range(1, FILMS + 1)]
        self.describe("items", "films.csv", films)
        self.read()

    # What happens in the world

    def next_week(self) -> list[Event]:
        """Let a week pass, and return the events of its visits."""
        self.week += 1
        events: list[Event] = []
        for user, unseen in self.unseen.items():
            time = int(START) + self.week * WEEK + (user % 7) * DAY + round(min(max(self.draw.gauss(18, 2), 12), 22) * HOUR)
            for _ in range(self.draw.randint(5, 9)):
                events.append((user, unseen.pop(), float(self.draw.randint(2, 5)), time))
                time += self.draw.randint(30, 90)
        return sorted(events, key=lambda event: event[3])

    @property
    def now(self) -> int:
        """The time in UTC seconds: six o'clock on the morning after the week."""
        return int(START) + (self.week + 1) * WEEK + 6 * HOUR

    def deliver(self, name: str, events: Iterable[Event], *, written: int | None = None, bad: Iterable[str] = ()) -> list[Event]:
        """Deliver a CSV of these events, followed by bad lines. It was written an hour ago, or at `written`."""
        written = self.now - HOUR if written is None else written
        good, wrong = list(events), list(bad)
        self.put(name, text(good, wrong), modified=written)
        self.truth.deliver(Delivery(name, min(written, self.now), good, bad=len(wrong)))
        return good

    def describe(
        self, kind: Any, name: str, rows: list[Described], *, bad: Iterable[str] = (), written: int | None = None
    ) -> None:
        """Deliver a CSV with the columns that the rows mention."""
        written = self.now - HOUR if written is None else written
        columns = [column for column in COLUMNS[kind] if any(column in said for _, _, said in rows)]
        dated = any(updated_at is not None for _, updated_at, _ in rows)
        written_out = io.StringIO(newline="")
        table = csv.writer(written_out, lineterminator="\n")
        table.writerow(["movieId" if kind == "items" else "userId", *columns, *(["updated_at"] if dated else [])])
        for id_, updated_at, said in rows:
            table.writerow([id_, *(said.get(column) for column in columns), *([updated_at] if dated else [])])
        wrong = list(bad)
        self.put(name, written_out.getvalue() + "".join(f"{line}\n" for line in wrong), modified=written)
        self.truth.deliver(Delivery(name, min(written, self.now), described=rows, kind=kind, bad=len(wrong)))

    # What the operator does

    def land(self, now: float | None = None, validation: ValidationSettings = LAX, *, retry_quarantined: bool = False) -> Landing:
        now = self.now if now is None else now
        options = LandingOptions(validation, self.settings, self.engine, now, retry_quarantined, self.data)
        return land(self.store, self.open(self.zone), NAME, options)

    def read(self, now: float | None = None, *, retry: bool = False) -> Landing:
        """Read new files. Afterwards everything must be what the truth says."""
        found = self.land(now, retry_quarantined=retry)
        wanted = self.truth.end_run(self.now if now is None else now)
        assert {each.file: account_of(each) for each in found.accounts if each.status != "copy"} == wanted
        self.compare(found.dataset, found.watermark)
        return found

    def read_again(self) -> Landing:
        """Read all files once more, as the run after a removal or its undoing does."""
        found = self.land()
        self.truth.end_rereading(self.now)
        self.compare(found.dataset, found.watermark)
        return found

    def compare(self, ref: DatasetRef, watermark: int | None = None) -> None:
        """Check that everything in the version is what the truth says."""
        events = self.truth.events()
        columns = [self.table(ref)[name].tolist() for name in ("user_id", "item_id", "rating", "timestamp")]
        assert {(user, item): (rating, time) for user, item, rating, time in zip(*columns, strict=True)} == {
            key: (event.rating, event.time) for key, event in events.items()
        }
        assert described_in(self, ref, "items") == self.truth.table("items", COLUMNS["items"], ("", None, ""))
        assert described_in(self, ref, "users") == self.truth.table("users", COLUMNS["users"], (None,) * 4)
        times = [event.time for event in events.values()]
        assert (ref.rows, ref.first, ref.last) == (len(events), min(times), max(times))
        assert (ref.users, ref.items) == (len({user for user, _ in events}), len({item for _, item in events}))
        before = [self.table(ref, "features")[name].tolist() for name in ("user_events_before", "item_events_before")]
        counts = {(user, item): seen for user, item, *seen in zip(*columns[:2], *before, strict=True)}
        assert counts == self.truth.counts_before()
        if watermark is not None:
            assert watermark == self.truth.watermark
        verify_dataset(self.store, ref)
        self.compared += 1

    def newest(self) -> DatasetRef:
        return [ref for ref in list_datasets(self.store) if ref.name == NAME][-1]

    def tidy(self, keep: int = 3) -> None:
        """Compact if it is due, and prune."""
        compact(self.store, NAME, self.settings, self.engine.work_dir, self.now)
        prune_versions(self.store, plan_prune(self.store, keep))
        self.compare(self.newest())

    def watch(self, now: int | None = None) -> DriftResult:
        return monitor_dataset(
            self.store, self.newest(), MODEL, DRIFT, QUIET, span=(None, self.now if now is None else now)
        ).result

    def remove(
        self, *, file: str = "", user: int | None = None, event: tuple[int, int, int] | None = None, elsewhere: bool = False
    ) -> int:
        """Remove a file, a user, or an event (user, film, time). Return the number of the entry.

        With `elsewhere`, other files have what takes its place, so nothing is compared before they have been read again.
        """
        given = {"user": user} if event is None else dict(zip(("user", "item", "time"), event, strict=True))
        removal = Removal(reason="asked", by="the operator", file=file, **given)
        ref, entry = remove(self.store, NAME, removal, self.settings, self.engine.work_dir, self.now)
        self.truth.removed_files |= {file} if file else set()
        self.truth.removed_users |= {user} if user is not None else set()
        self.truth.removed_events |= {event} if event is not None else set()
        self.truth.after_removal()
        if not elsewhere:
            self.compare(ref, entry.watermark)
        return entry.number

    def undo(self, number: int) -> DatasetRef:
        """Undo a removal."""
        removal = Removal(reason="a mistake", by="the operator", undoes=number)
        return undo_removal(self.store, NAME, removal, self.settings, self.engine.work_dir, self.now)[0]

    def train(self) -> tuple[ModelRef, Decision]:
        """Train on the newest dataset. Return the sealed version and the gate's decision."""
        ref = self.newest()
        candidate = train_candidate(self.store, ref, "popularity", self.recipe)
        evaluation, folder = evaluated(self.store, ref, [candidate], self.recipe)
        staged = stage_challenger(self.store, MODEL, folder)
        decision = judge_staged(self.store, staged, candidate.kind, ref, self.recipe)
        return publish(self.store, staged, decision, candidate, evaluation, self.recipe), decision

    def retrain(self) -> ModelRef:
        """Train a version and make it champion by force, because a training of seconds would not beat the champion."""
        version, _ = self.train()
        self.force(version)
        return version

    def force(self, version: ModelRef) -> None:
        """Make a version champion whatever the gate says."""
        registry = ModelRegistry(self.store)
        current = registry.champion(MODEL)
        number = current.number if current else 0
        registry.promote(MODEL, version.version, expected=number, kind="force", reason="the operator", now=datetime.now(UTC))

    def champion(self) -> str:
        current = ModelRegistry(self.store).champion(MODEL)
        assert current is not None
        return current.version


def film_of(film: int) -> dict[str, Any]:
    return {"title": f"Film {film}", "year": 1950 + film % 70, "genres": ("Drama", "Comedy", "Thriller")[film % 3]}


def text(events: Iterable[Event], bad: Iterable[str] = (), separator: str = ",") -> str:
    """Return a table with a header."""
    rows = [("userId", "movieId", "rating", "timestamp"), *events]
    return "".join(separator.join(map(str, row)) + "\n" for row in rows) + "".join(f"{line}\n" for line in bad)


def account_of(account: Any) -> Account:
    return Account(**{name: getattr(account, name) for name in Account.__dataclass_fields__})


def described_in(town: Town, ref: DatasetRef, kind: Any) -> dict[int, tuple[Any, ...]]:
    """Return the descriptions of a version by id, with None for a missing cell."""
    table = town.table(ref, kind)
    ids = table["item_id" if kind == "items" else "user_id"].tolist()
    cells = [[None if missing else value for value, missing in zip(table[name].tolist(), table[name].isna(), strict=True)]
             for name in COLUMNS[kind]]  # fmt: skip
    return {id_: row for id_, row in zip(ids, zip(*cells, strict=True), strict=True)}
