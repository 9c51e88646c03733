"""Twelve weeks of a landing zone, each with its accident."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from infra.registry import ModelRegistry
from tasks.gate import Approval, promote_version, roll_back
from tests.full.operation.town import DAY, FILMS, HOUR, MODEL, USERS, Town, text
from tests.full.operation.truth import Delivery, Event
from tests.tasks.fed import bots

__all__ = ["WEEKS"]


def an_ordinary_week(town: Town) -> None:
    """Events, and descriptions of all users."""
    town.deliver("week-before.csv", town.next_week())
    town.read()
    town.retrain()
    town.deliver("ordinary-week.csv", town.next_week())
    town.describe(
        "users", "people.csv", [(user, None, {"gender": "FM"[user % 2], "age": 20 + user}) for user in range(1, USERS + 1)]
    )
    town.read()
    assert town.land().accounts == ()
    found = town.watch()
    assert found.verdict == "stable" and found.rows > 400, found.reasons


def late_events_and_corrections(town: Town) -> None:
    """Some events come two weeks late, some ratings are corrected, and some of these in the same second and to a lower rating."""
    events = town.next_week()
    town.deliver("on-time.csv", events[40:])
    town.read()
    known = [(user, film, event.rating, event.time) for (user, film), event in town.truth.events().items()]
    corrected = [(user, film, 1.0, time + 5) for user, film, _, time in known[:20]]
    lowered = [(user, film, 1.5, time) for user, film, _, time in known[20:30]]
    outdated = [(user, film, 5.0, time - DAY) for user, film, _, time in known[30:40]]
    town.deliver("late.csv", events[:40], written=town.now - HOUR // 2)
    town.deliver("corrections.csv", [*corrected, *lowered, *outdated], written=town.now - HOUR // 2)
    accounts = {account.file: account for account in town.read().accounts}
    assert accounts["late.csv"].late == 40
    assert (accounts["corrections.csv"].corrections, accounts["corrections.csv"].duplicates) == (30, 10)


def copies(town: Town) -> None:
    """An exact copy, a renamed one, and the rows of last week in another order."""
    events = town.deliver("with-copies.csv", town.next_week())
    town.read()
    shutil.copy(town.zone / "with-copies.csv", town.zone / "a copy.csv")
    shutil.copy2(town.zone / "films.csv", town.zone / "films-again.csv")
    (town.zone / "history.csv").rename(town.zone / "history-renamed.csv")
    os.utime(town.zone / "a copy.csv", (town.now - HOUR, town.now - HOUR))
    town.deliver("shuffled.csv", events[::-1])
    before = town.newest()
    found = town.read()
    assert found.dataset == before
    assert {account.file for account in found.accounts if account.status == "copy"} == {
        "a copy.csv",
        "films-again.csv",
        "history-renamed.csv",
    }
    assert town.land().accounts == ()


def a_broken_file(town: Town) -> None:
    """Half of a Parquet file lands. It waits, beside good files, until its writer has completed it."""
    events = town.next_week()
    town.deliver("half-of-the-week.csv", events[::2])
    rest = events[1::2]
    path = town.zone / "rest.parquet"
    pd.DataFrame(rest, columns=["user_id", "item_id", "rating", "timestamp"]).to_parquet(path)
    whole = path.read_bytes()
    town.put("rest.parquet", whole[: len(whole) // 2], modified=town.now - HOUR)
    assert "rest.parquet" in town.read().waiting
    town.put("rest.parquet", whole, modified=town.now - HOUR // 2)
    town.truth.deliver(Delivery("rest.parquet", town.now - HOUR // 2, rest))
    assert town.read().waiting == {}


def a_week_without_data(town: Town) -> None:
    """Nothing arrives. Monitoring says so, but does not ask for a retraining, which could not help."""
    town.next_week()
    before = town.newest()
    assert town.read().dataset == before
    found = town.watch()
    assert found.verdict == "drifted" and found.causes == [], found.reasons


def a_week_with_many_bad_rows(town: Town) -> None:
    """30 % of the rows are bad, so the file is refused. This does not ask for a retraining. The producer corrects the file."""
    events = town.next_week()
    town.put("bad.csv", text(events[170:], [f"{user},{film},77,{time}" for user, film, _, time in events[:170]]), town.now - HOUR)
    town.truth.deliver(Delivery("bad.csv", town.now - HOUR, bad=len(events)))
    found = town.read()
    assert found.accounts[0].status == "quarantined" and "rating is outside 0.5 to 5" in found.accounts[0].why
    drift = town.watch()
    assert drift.verdict == "drifted" and drift.causes == [], drift.reasons
    town.deliver("bad.csv", events, written=town.now - HOUR // 2)
    town.read()


def new_and_renamed_films(town: Town) -> None:
    """New films appear and old ones are renamed, in files that have only some columns."""
    events = town.next_week()
    new = [(event[0], FILMS + 1 + number % 5, 4.0, event[3]) for number, event in enumerate(events[:25])]
    town.deliver("week-with-new-films.csv", [*events, *new])
    town.describe("items", "titles.csv", [(film, None, {"title": f"Film {film} renamed"}) for film in (1, 2, 3, FILMS + 1)])
    town.describe("items", "genres.csv", [(film, None, {"genres": "War"}) for film in (3, FILMS + 2, FILMS + 50)])
    town.describe("users", "jobs.csv", [(user, None, {"occupation": "writer"}) for user in (1, 2, USERS + 1)])
    town.read()
    table = town.truth.table("items", ("title", "genres"), ("", ""))
    assert table[3] == ("Film 3 renamed", "War") and table[FILMS + 50] == ("", "War")
    assert FILMS + 3 in table, "a film without a description has a row"


def a_description_from_the_future(town: Town) -> None:
    """One `updated_at` lies in the year 2255. Its row is set aside, and later corrections of the film count."""
    town.deliver("beside-updates.csv", town.next_week())
    wild = 9_000_000_000
    rows = [(5, town.now - 2 * HOUR, {"title": "Five"}), (6, None, {"title": "Six"})]
    town.describe("items", "updated.csv", rows, bad=[f"7,Seven,{wild}", f"5,Five of the future,{wild}"])
    town.read()
    town.describe("items", "corrected.csv", [(5, None, {"title": "Five corrected"}), (7, None, {"title": "Seven corrected"})])
    town.read()
    assert [town.truth.table("items", ("title",), ("",))[film] for film in (5, 7)] == [("Five corrected",), ("Seven corrected",)]


def a_clock_three_days_behind(town: Town) -> None:
    """The machine's clock is three days behind, so the newest days lie in its future. Once the clock is right, they are read again.

    Meanwhile a rating of such a file was corrected, with the same second. The correction stays.
    """
    events, behind = town.next_week(), town.now - 3 * DAY
    first = min(event[3] for event in events)
    days: dict[str, list[Event]] = {}
    for event in events:
        days.setdefault(f"days-{(event[3] - first) // (2 * DAY)}.csv", []).append(event)
    for name, day in days.items():
        town.put(name, text(day), modified=town.now - HOUR)
        good = [event for event in day if event[3] <= behind + DAY]
        town.truth.deliver(Delivery(name, behind + 60, good, bad=len(day) - len(good)))
    waits = town.land(behind)
    assert waits.accounts == () and len(waits.waiting) == len(days), "files from the future of this clock may still grow"
    found = town.read(behind + 60)
    assert sum(account.quarantined for account in found.accounts) > 50
    user, film, _, time = next(event for event in days["days-2.csv"] if event[3] <= behind + DAY)
    town.deliver("corrected-meanwhile.csv", [(user, film, 0.5, time)], written=behind + 600)
    town.read(behind + 1200)
    for account in found.accounts:
        if account.quarantined:
            town.truth.deliver(Delivery(account.file, behind + 60, days[account.file]))
    town.read(retry=True)
    assert {(event[0], event[1]) for event in events} <= town.truth.events().keys()
    assert town.truth.events()[user, film].rating == 0.5


def bots_come(town: Town) -> None:
    """60 bots rate 60 films, dated half a day before the newest event, and then after it. Both are noticed and removed."""
    newest = max(event[3] for event in town.deliver("beside-bots.csv", town.next_week()))
    town.read()
    for name, begin in (("bots-before.csv", newest - DAY // 2), ("bots-after.csv", newest + HOUR)):
        watermark = town.truth.watermark
        town.deliver(name, bots(60, 60, begin=begin).itertuples(index=False, name=None))
        town.read()
        found = town.watch()
        assert found.verdict == "drifted" and found.causes, f"{name}: {found.reasons}"
        town.remove(file=name)
        town.read_again()
        assert town.truth.watermark == watermark


def one_event_of_tomorrow(town: Town) -> None:
    """One event is dated almost validation.max_future_s ahead. It changes its own row, and nothing else."""
    town.deliver("before-tomorrow.csv", town.next_week())
    watermark = town.read().watermark
    town.deliver("tomorrow.csv", [(1, 9999, 5.0, town.now + DAY - 60)])
    assert town.read().watermark == watermark
    town.retrain()
    events = town.deliver("after-it.csv", town.next_week())
    found = town.read()
    assert found.accounts[0].late == 0
    seen = town.watch()
    assert seen.rows == len(events) and seen.verdict == "stable", seen.reasons


def a_copied_folder_and_two_rollbacks(town: Town) -> None:
    """The zone is copied without file times. The champion is rolled back twice, and forced while another one waits."""
    town.deliver("before-copying.csv", town.next_week())
    town.read()
    before, own = town.newest(), town.zone
    town.zone = Path(shutil.copytree(own, town.folder / "copied", copy_function=shutil.copyfile))
    for number, path in enumerate(sorted(town.zone.iterdir(), reverse=True)):
        os.utime(path, (town.now - HOUR + number, town.now - HOUR + number))
    assert town.read().dataset == before
    town.zone = own
    registry, gate = ModelRegistry(town.store), town.recipe.promotion
    a, b, c = (town.retrain().version for _ in range(3))
    assert [roll_back(town.store, MODEL, None, "worse", gate).version for _ in range(2)] == [b, a] and town.champion() == a
    waiting, decision = town.train()
    approved = replace(decision, outcome="promoted", approval=Approval(True, "ada", "seen", "2026-01-01T00:00:00+00:00"))
    town.force(registry.version(MODEL, c))
    manual = gate.model_copy(update={"approval": "manual"})
    published = promote_version(town.store, waiting, approved, manual)
    assert published.promotion is None and published.decision.outcome in ("held", "needs approval") and town.champion() == c
    assert all(kept["outcome"] != "promoted" for _, kept in registry.later_decisions(MODEL, waiting.version))


WEEKS: tuple[Callable[[Town], None], ...] = (
    an_ordinary_week,
    late_events_and_corrections,
    copies,
    a_broken_file,
    a_week_without_data,
    a_week_with_many_bad_rows,
    new_and_renamed_films,
    a_description_from_the_future,
    a_clock_three_days_behind,
    bots_come,
    one_event_of_tomorrow,
    a_copied_folder_and_two_rollbacks,
)
