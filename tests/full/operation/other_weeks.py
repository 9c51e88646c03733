"""Other weeks of a landing zone: removals, formats, odd ids and times, kills, and a whole history that arrives again."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import NotFoundError
from infra.landing_zone import FolderZone, SourceFile
from infra.leases import leased
from infra.storage.local import LocalStore
from tasks.datasets import list_datasets, load_dataset_ref, plan_prune, prune_versions
from tests.doubles.kill_points import killed_at_each_write
from tests.full.operation.town import DAY, FILMS, HOUR, Town, text
from tests.full.operation.truth import Delivery
from tests.tasks.landed import NAME, at, compact_in, content
from tests.volume import volume

__all__ = ["OTHER_WEEKS"]


def a_user_leaves_and_comes_back(town: Town) -> None:
    """A user is removed, and later events of the user stay out. Then the removal turns out to be a mistake."""
    town.deliver("before-leaving.csv", town.next_week())
    town.describe(
        "users", "zip-codes.csv", [(user, None, {"age": 20 + user, "zip_code": f"1234{user % 10}"}) for user in range(1, 11)]
    )
    town.read()
    number = town.remove(user=7)
    more = [(7, FILMS + 1, 4.0, town.now - DAY), (8, FILMS + 1, 4.0, town.now - DAY)]
    town.deliver("more-of-user-7.csv", more)
    assert town.read().accounts[0].removed == 1
    town.undo(number)
    town.truth.removed_users.clear()
    found = town.read_again()
    assert sum(account.removed for account in found.accounts) == 0
    assert (7, FILMS + 1) in town.truth.events()


def removals_that_meet_other_files(town: Town) -> None:
    """A file is removed whose rows came in another one, too, and so is an event that had corrected an older one. Both come back."""
    events = town.deliver("taken-out.csv", town.next_week())
    town.read()
    user, film, rating, time = events[0]
    town.deliver("also-there.csv", events[len(events) // 2 :][::-1])
    town.deliver("newer.csv", [(user, film, 6.0 - rating, time + HOUR)])
    town.read()
    of_file = town.remove(file="taken-out.csv", elsewhere=True)
    town.read_again()
    of_event = town.remove(event=(user, film, time + HOUR), elsewhere=True)
    town.deliver("newer-again.csv", [(user, film, 1.0, time + HOUR), (user, film, 1.0, time + 2 * HOUR)])
    found = town.land()
    assert {account.file: account.removed for account in found.accounts}["newer-again.csv"] == 1
    town.truth.end_run(town.now)
    town.compare(found.dataset, found.watermark)
    town.compact()
    prune_versions(town.store, plan_prune(town.store, 1))
    for number in (of_file, of_event):
        town.undo(number)
    town.truth.removed_files.discard("taken-out.csv")
    town.truth.removed_events.clear()
    town.read_again()
    assert town.land().accounts == ()


def titles_that_look_like_something_else(town: Town) -> None:
    """Titles with quotes, line ends and other scripts, titles that spreadsheets take for empty cells, and genres that are cleared."""
    town.deliver("beside-titles.csv", town.next_week())
    odd = ["NA", "null", "nan", "1917", "-1", '"Quoted", and more', "Two\nlines", "千と千尋", "👾", " ", "=1+1", "1e5", "True"]
    town.describe("items", "odd-titles.csv", [(20 + number, None, {"title": title}) for number, title in enumerate(odd)])
    town.describe(
        "users",
        "odd-jobs.csv",
        [(number + 1, None, {"occupation": title, "zip_code": "00501"}) for number, title in enumerate(odd)],
    )
    town.put("no-genres.csv", "movieId,genres\n40,(no genres listed)\n41,\n", modified=town.now - HOUR)
    nothing = Delivery("no-genres.csv", town.now - HOUR, described=[(40, None, {"genres": ""}), (41, None, {})], kind="items")
    town.truth.deliver(nothing)
    town.read()


def two_ratings_in_one_second(town: Town) -> None:
    """A user rates a film three times in one second, and again in another file. The later file counts, and its highest rating."""
    events = town.next_week()
    user, film, _, time = events[-1]
    thrice = [(user, film, rating, time) for rating in (3.0, 5.0, 0.5)]
    town.deliver(
        "thrice.csv",
        [*events[:-1], *thrice],
        bad=[f"{user},{film},0.49,{time}", f"{user},{film},nan,{time}", f"{user},,4,{time}"],
    )
    town.deliver("once-more.csv", [(user, film, 4.5, time)], written=town.now - 2 * HOUR)
    town.read()
    assert town.truth.events()[user, film].rating == 5.0
    town.deliver("last-word.csv", [(user, film, 2.5, time)], written=town.now - HOUR // 2)
    assert town.read().accounts[0].corrections == 1


def files_of_all_formats(town: Town) -> None:
    """One week in semicolons, tabs, gzip and Parquet, under any name. UTF-16 waits until its producer saves it as UTF-8."""
    events = town.next_week()
    frame = pd.DataFrame(events[3::5], columns=["user_id", "item_id", "rating", "timestamp"])
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    wide = text(events[4::5])
    forms = {
        "excel.CSV": b"\xef\xbb\xbf" + text(events[0::5], separator=";").replace("\n", "\r\n").encode(),
        "tabs.txt": text(events[1::5], separator="\t").encode(),
        "packed": gzip.compress(text(events[2::5]).encode(), mtime=0),
        "columns.dat": buffer.getvalue(),
        "wide.csv": wide.encode("utf-16"),
    }
    for number, (name, whole) in enumerate(forms.items()):
        town.put(name, whole, modified=town.now - HOUR)
        if name != "wide.csv":
            town.truth.deliver(Delivery(name, town.now - HOUR, events[number::5]))
    assert "UTF-16" in town.read().waiting["wide.csv"]
    town.deliver("wide.csv", events[4::5])
    town.read()


def the_largest_ids(town: Town) -> None:
    """Users and films up to 2^63 - 1, and one beyond it, which is bad. No digit is lost."""
    town.deliver("beside-large-ids.csv", town.next_week())
    most = 2**63 - 1
    large = [(most - user, most - film, 3.0, town.now - DAY + user) for user in range(6) for film in range(6)]
    town.deliver("large.csv", large, bad=[f"{most + 1},1,3,{town.now - DAY}", f"1,{2**64},3,{town.now - DAY}"])
    town.describe(
        "items", "large-films.csv", [(most, None, {"title": "The last film"}), (most - 1, None, {"title": "Last but one"})]
    )
    town.read()
    town.deliver("large-again.csv", [(most, most, 1.0, town.now - HOUR), (2**53 + 1, 2**53 + 1, 2.0, town.now - HOUR)])
    assert town.read().accounts[0].corrections == 1


def columns_that_are_renamed_or_doubled(town: Town) -> None:
    """A producer renames a column, another one writes it twice, and a third one delivers nothing. After two days, they correct this."""
    events = town.next_week()
    town.deliver("good.csv", events[::3])
    renamed, doubled = text(events[1::3]), text(events[2::3])
    town.put("renamed.csv", renamed.replace("rating", "stars"), modified=town.now - HOUR)
    lines = doubled.splitlines()
    town.put("doubled.csv", "".join(f"{line},{line.split(',')[2]}\n" for line in lines), modified=town.now - HOUR)
    town.put("empty.csv", "", modified=town.now - HOUR)
    found = town.read()
    assert set(found.waiting) == {"renamed.csv", "doubled.csv", "empty.csv"}, found.waiting
    assert "rating" in found.waiting["renamed.csv"] and "rating" in found.waiting["doubled.csv"]
    for name in found.waiting:
        town.truth.deliver(Delivery(name, town.now - HOUR))
    given_up = town.read(town.now + 2 * DAY)
    assert {account.status for account in given_up.accounts} == {"quarantined"}
    town.deliver("renamed.csv", events[1::3], written=town.now - HOUR // 2)
    town.deliver("doubled.csv", events[2::3], written=town.now - HOUR // 2)
    town.read(town.now + 2 * DAY)


class Growing(FolderZone):
    """A zone whose writer goes on while a run reads it."""

    more: dict[str, str] = {}  # noqa: RUF012 - what is still to be written, by file

    def unchanged(self, file: SourceFile) -> bool:
        with (self.folder / file.name).open("a") as growing:
            growing.write(self.more.pop(file.name, ""))
        return super().unchanged(file)


def a_file_that_grows(town: Town) -> None:
    """Half of a file is there when a run begins, and the rest comes while it is read. None of it counts until the file is complete."""
    events = town.next_week()
    half = len(events) // 2
    town.deliver("other.csv", events[:20])
    path = town.put("growing.csv", text(events[20:half]), modified=town.now - HOUR)
    Growing.more = {"growing.csv": "".join(text(events[half:]).splitlines(keepends=True)[1:])}
    town.open = Growing
    assert "it changed while it was being read" in town.read().waiting["growing.csv"]
    town.open = FolderZone
    town.deliver("growing.csv", events[20:])
    assert path.read_text() == text(events[20:])
    town.read()


def a_compaction_that_is_killed(town: Town) -> None:
    """A compaction is killed at one write after another. A plain repetition gives the same dataset."""
    town.deliver("before-compaction.csv", town.next_week())
    town.read()
    kills = 0
    copies = partial(copied, town.store, town.folder)
    for folder in killed_at_each_write(partial(compact_in, town), copies, step=volume(9, 1)):
        other = at(town, folder)
        assert content(other.compact()) == content(town.newest())
        kills += 1
    assert kills > volume(1, 15)
    town.compare(town.compact())


def copied(store: LocalStore, folder: Path, number: int) -> Path:
    """Return a copy of the store."""
    return Path(shutil.copytree(store.folder, folder / f"killed-{number}"))


def a_pruning_beside_a_training(town: Town) -> None:
    """While a training uses an old version, pruning keeps it. Afterwards pruning deletes it."""
    town.deliver("before-pruning.csv", town.next_week())
    town.read()
    old = town.newest()
    with leased(town.store, "a training", [old.prefix]):
        for number in range(3):
            town.deliver(f"small-{number}.csv", [(1 + number, FILMS + 5, 4.0, town.now - HOUR)])
            town.read()
        town.compact()
        prune_versions(town.store, plan_prune(town.store, 1))
        assert len(town.table(old)) == old.rows
        with pytest.raises(NotFoundError):
            load_dataset_ref(town.store, NAME, version_of(town, old.number + 1))
    prune_versions(town.store, plan_prune(town.store, 1))
    assert old.version not in {ref.version for ref in list_datasets(town.store)}
    town.compare(town.newest())


def version_of(town: Town, number: int) -> str:
    """Return the version of a log entry."""
    return str(json.loads(town.store.get(f"landing/{NAME}/log/{number:08d}.json"))["version"])


def descriptions_that_contradict_each_other(town: Town) -> None:
    """Two files from the same second describe the same films and users. The greater value counts, whichever file is read first."""
    town.deliver("beside-contradictions.csv", town.next_week())
    for name, film, age in (("one", "Alpha", 30), ("two", "Beta", 9)):
        town.describe("items", f"films-{name}.csv", [(1, None, {"title": film}), (2, town.now - DAY, {"title": film})])
        town.describe("users", f"people-{name}.csv", [(1, None, {"age": age, "gender": "MF"[age == 9]})])
    town.read()
    assert town.truth.table("items", ("title",), ("",))[1] == ("Beta",)
    assert town.truth.table("users", ("age", "gender"), (None, None))[1] == (30, "M")


def a_feed_in_milliseconds(town: Town) -> None:
    """A producer switches to milliseconds, and back. A large file is refused as a whole, and a small one loses these rows."""
    events = town.next_week()
    in_ms = [(user, film, rating, time * 1000) for user, film, rating, time in events]
    town.put("milliseconds.csv", text(in_ms[:-40]), modified=town.now - HOUR)
    town.truth.deliver(Delivery("milliseconds.csv", town.now - HOUR, bad=len(events) - 40))
    wrong = [f"{user},{film},{rating},{time}" for user, film, rating, time in in_ms[-40:-20]]
    town.deliver("small.csv", events[-20:], bad=wrong)
    found = town.read()
    assert sorted(account.status for account in found.accounts) == ["accepted", "quarantined"]
    assert all("milliseconds" in account.remarks for account in found.accounts)
    town.deliver("milliseconds.csv", events[:-40], written=town.now - HOUR // 2)
    town.deliver("small.csv", events[-40:], written=town.now - HOUR // 2)
    town.read()


def the_whole_history_comes_again(town: Town) -> None:
    """All events arrive again in one file, in another order. Nothing changes, and monitoring sees nothing new."""
    town.deliver("before-everything.csv", town.next_week())
    town.read()
    town.retrain()
    before = town.newest()
    everything = [(user, film, event.rating, event.time) for (user, film), event in town.truth.events().items()]
    town.deliver("everything.csv", random.Random(1).sample(everything, len(everything)))
    found = town.read()
    assert found.dataset == before and found.accounts[0].duplicates == len(everything)
    seen = town.watch()
    assert seen.rows == 0 and seen.arrived == 0 and seen.causes == [], seen.reasons


def wrong_clocks(town: Town) -> None:
    """One event is dated in the year 2100. Two machines correct the same rating, and the clock of one is an hour ahead."""
    town.deliver("before-2100.csv", town.next_week())
    town.read()
    town.retrain()
    events = town.next_week()
    town.deliver("beside-2100.csv", events, bad=[f"1,1,5,{4_102_444_800}"])
    watermark = town.read().watermark
    assert watermark == max(event[3] for event in events) - DAY
    user, film, _, time = events[0]
    town.deliver("behind.csv", [(user, film, 5.0, time)], written=town.now - 2 * HOUR)
    town.put("ahead.csv", text([(user, film, 1.0, time)]), modified=town.now + HOUR)
    assert "ahead.csv" in town.read().waiting
    town.truth.deliver(Delivery("ahead.csv", town.now + 60, [(user, film, 1.0, time)]))
    town.read(town.now + 60)
    assert town.truth.events()[user, film].rating == 1.0
    seen = town.watch()
    assert seen.verdict == "stable", seen.reasons


class Backwards(FolderZone):
    """A zone that lists its files in reverse order."""

    def files(self) -> list[SourceFile]:
        return super().files()[::-1]


def another_order(town: Town) -> None:
    """A zone that is listed in another order, and another store that reads all weeks at once, give the same content."""
    town.open = Backwards
    events = town.next_week()
    for number in range(4):
        town.deliver(f"part-{number}.csv", events[number::4])
    town.read()
    town.open = FolderZone
    at_once = at(town, town.folder / "at-once")
    at_once.zone = Path(shutil.copytree(town.zone, town.folder / "what-counts"))  # this keeps the times of the files
    for file in (file for read in town.truth.runs for file in read if (at_once.zone / file.name).exists()):
        os.utime(at_once.zone / file.name, (file.written, file.written))  # a wrong clock had made some files older
    for name in town.truth.removed_files:
        (at_once.zone / name).unlink()
    assert content(at_once.land(town.now).dataset) == content(town.newest())


OTHER_WEEKS: tuple[Callable[[Town], None], ...] = (
    a_user_leaves_and_comes_back,
    removals_that_meet_other_files,
    titles_that_look_like_something_else,
    two_ratings_in_one_second,
    files_of_all_formats,
    the_largest_ids,
    columns_that_are_renamed_or_doubled,
    a_file_that_grows,
    a_compaction_that_is_killed,
    a_pruning_beside_a_training,
    descriptions_that_contradict_each_other,
    a_feed_in_milliseconds,
    the_whole_history_comes_again,
    wrong_clocks,
    another_order,
)
