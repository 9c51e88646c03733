"""A year that nobody looks at: `python -m benchmarks.year`.

The installation of compose runs as processes: PostgreSQL, the Prefect server with its schedules and automations, and the worker, with the
retention that ships. Its clock is set forward from one scheduled time to the next (clock.py), so that each day has all of its runs: ETL,
monitoring, housekeeping, and the retrainings that monitoring starts. Each week something is killed. A month goes without data, a week
with bad data, and both changes of the clock. The data are small and the model is a Markov chain, because the schedules are the point.

The table has four weeks a row: how much of the best policy's live NDCG@10 the champion had in its worst week, how late runs began, what
was killed, and how large the database and the store were in the end.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import hardware, skip, write_result
from benchmarks.year.accounts import account_of
from benchmarks.year.clock import Clock
from benchmarks.year.days import Year
from benchmarks.year.installation import installation
from benchmarks.year.world import Calendar
from infra.pages import markdown_table

__all__ = ["main", "render"]


def render(result: dict[str, Any]) -> str:
    """Return the table of a year."""
    head = [
        "from",
        "live NDCG@10",
        "of the best policy's",
        "runs",
        "latest start",
        "killed",
        "Prefect's database",
        "runs in it",
        "store",
    ]
    rows = []
    for row in result["rows"]:
        quality = [f"{row['champion']:.3f}", f"{row['share']:.1%}"] if row["share"] is not None else ["no data", ""]
        late = f"{row['latest_s']:.0f} s" + (
            f" (after a kill {row['latest_after_kill_s'] / 60:.0f} min)" if row["latest_after_kill_s"] else ""
        )
        sizes = [f"{row['database_mb']:.0f} MB", f"{row['stored_runs']:,}", f"{row['store_mb']:.0f} MB"]
        rows.append([row["from"], *quality, f"{row['runs']:,}", late, str(row["kills"]), *sizes])
    return markdown_table(head, rows)


def main() -> None:
    """Live through the year, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365, help="simulated days")
    parser.add_argument("--folder", type=Path, help="folder of the installation, which is kept (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/year.json"))
    options = parser.parse_args()
    if not Clock.is_possible():
        skip("there is no C compiler, which makes the library that shifts the clock.")
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        skip("PostgreSQL is not installed.")
    calendar = Calendar()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="year-"))
    try:
        with installation(folder, calendar.begins, print) as place:
            year = Year(place, calendar)
            year.begin()
            for number in range(options.days):
                year.live_day(number)
                if (number + 1) % 7 == 0 or number + 1 == options.days:  # so that a long run shows what it has found so far
                    result = {"days": number + 1, **account_of(year, number + 1), "hardware": hardware()}
                    write_result(options.out, result)
                    print(f"{calendar.day(number)}: {result['sizes'][-1:]}, {result['weeks'][-1:]}", flush=True)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(render(result))


if __name__ == "__main__":
    main()
