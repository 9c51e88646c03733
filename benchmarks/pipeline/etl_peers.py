"""The etl of one ratings.csv: this project's, and typical implementations in pandas, polars and DuckDB.

`benchmarks.pipeline.etl` runs each engine in its own process: `python -m benchmarks.pipeline.etl_peers NAME ratings.csv FOLDER`. Every engine reads
the file, quarantines the rows that break the same rules, and keeps the newest event of each user and movie. It sorts by user,
time and movie, computes the same features, for which the earlier events of a user and movie count too, and writes both tables as
Parquet with zstd. Ours also validates the rows with pandera
models, names the version by its content, and stores it with the sha256 of each file.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from configs.settings import DataSettings, ValidationSettings
from tasks.ingest.features import FEATURE_COLUMNS, SESSION_GAP_S

__all__ = ["ENGINES", "features_file"]

RULES = ValidationSettings()
ROLE = {"userId": "user_id", "movieId": "item_id"}


def ours(source: Path, folder: Path) -> None:
    """Run the same steps as the flow `etl`, without Prefect."""
    from configs.settings import EtlSettings
    from infra.storage.local import LocalStore
    from tasks.datasets import write_dataset
    from tasks.ingest import building, locate

    found = locate(DataSettings(local_path=source, cache_dir=folder / "cache"))
    with building(found, RULES, EtlSettings(work_dir=folder / "work"), int(time.time())) as release:
        write_dataset(LocalStore(folder / "store"), "bench", release, release.features, found.hashes())


def pandas(source: Path, folder: Path) -> None:
    """Use pandas as its user guide recommends: vectorised operations on complete tables, and groupby."""
    import pandas as pd

    frame = pd.read_csv(source).rename(columns=ROLE)
    frame["row"] = range(len(frame))
    for column in ("user_id", "item_id", "rating", "timestamp"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    bad = (
        frame[["user_id", "item_id", "rating", "timestamp"]].isna().any(axis=1)
        | (frame["user_id"] < 0)
        | (frame["item_id"] < 0)
        | ~frame["rating"].between(RULES.min_rating, RULES.max_rating)
        | ~frame["timestamp"].between(RULES.earliest, time.time() + RULES.max_future_s)
    )
    frame[bad].to_parquet(folder / "quarantine.parquet", compression="zstd")
    events = frame[~bad].astype({"user_id": "int64", "item_id": "int64", "timestamp": "int64"})
    events = events.sort_values(["user_id", "timestamp", "item_id", "rating", "row"]).drop_duplicates(
        ["user_id", "item_id", "timestamp"], keep="last"
    )
    events = events.reset_index(drop=True)
    newest = ~events.duplicated(["user_id", "item_id"], keep="last")
    events[newest].to_parquet(folder / "interactions.parquet", compression="zstd")
    when = pd.to_datetime(events["timestamp"], unit="s")
    by_user = events.groupby("user_id")["timestamp"]
    features = events[["user_id", "item_id", "rating", "timestamp"]].assign(
        user_idx=events.groupby("user_id").ngroup(),
        item_idx=events.groupby("item_id").ngroup(),
        rating_date=(events["timestamp"] // 86_400).astype("int32"),
        rating_year=when.dt.year,
        rating_month=when.dt.month,
        rating_weekday=when.dt.weekday,
        rating_hour=when.dt.hour,
        gap_s=by_user.diff().fillna(-1).astype("int64"),
        user_events_before=(by_user.rank(method="min") - 1).astype("int64"),
        item_events_before=(events.groupby("item_id")["timestamp"].rank(method="min") - 1).astype("int64"),
    )
    features["session_id"] = (features["gap_s"] > SESSION_GAP_S).groupby(features["user_id"]).cumsum()
    features.loc[newest, FEATURE_COLUMNS].reset_index(drop=True).to_parquet(folder / "features.parquet", compression="zstd")


def polars(source: Path, folder: Path) -> None:
    """Use polars with its lazy API."""
    import polars as pl

    kinds = {"userId": pl.Int64, "movieId": pl.Int64, "rating": pl.Float64, "timestamp": pl.Int64}
    frame = pl.scan_csv(source, schema=kinds, ignore_errors=True, row_index_name="row").rename(ROLE).collect()
    good = (
        pl.all_horizontal(pl.col("user_id", "item_id", "rating", "timestamp").is_not_null())
        & (pl.col("user_id") >= 0)
        & (pl.col("item_id") >= 0)
        & pl.col("rating").is_between(RULES.min_rating, RULES.max_rating)
        & pl.col("timestamp").is_between(RULES.earliest, int(time.time()) + RULES.max_future_s)
    )
    frame.filter(~good).write_parquet(folder / "quarantine.parquet", compression="zstd")
    events = (
        frame.lazy()
        .filter(good)
        .sort("user_id", "timestamp", "item_id", "rating", "row")
        .unique(["user_id", "item_id", "timestamp"], keep="last", maintain_order=True)
        .with_columns(newest=pl.struct("user_id", "item_id").is_last_distinct())
        .collect()
    )
    events.filter("newest").drop("newest").write_parquet(folder / "interactions.parquet", compression="zstd")
    when = pl.from_epoch("timestamp", time_unit="s")
    gap = pl.col("timestamp").diff().over("user_id").fill_null(-1)
    features = events.lazy().with_columns(
        user_idx=pl.col("user_id").rank("dense").cast(pl.Int64) - 1,
        item_idx=pl.col("item_id").rank("dense").cast(pl.Int64) - 1,
        rating_date=(pl.col("timestamp") // 86_400).cast(pl.Int32),
        rating_year=when.dt.year(),
        rating_month=when.dt.month().cast(pl.Int32),
        rating_weekday=when.dt.weekday().cast(pl.Int32) - 1,
        rating_hour=when.dt.hour().cast(pl.Int32),
        gap_s=gap,
        user_events_before=pl.col("timestamp").rank("min").over("user_id").cast(pl.Int64) - 1,
        item_events_before=pl.col("timestamp").rank("min").over("item_id").cast(pl.Int64) - 1,
    )
    features = features.with_columns(session_id=(pl.col("gap_s") > SESSION_GAP_S).cast(pl.Int64).cum_sum().over("user_id"))
    features.filter("newest").select(FEATURE_COLUMNS).collect().write_parquet(folder / "features.parquet", compression="zstd")


def duckdb(source: Path, folder: Path) -> None:
    """Use DuckDB in memory, with SQL."""
    import duckdb as db

    place = db.connect()
    place.execute(
        f"""CREATE TABLE raw AS SELECT row_number() OVER () - 1 AS row, userId AS user_id, movieId AS item_id, rating, timestamp
        FROM read_csv('{source}', header = true, store_rejects = true, columns = {{'userId': 'BIGINT', 'movieId': 'BIGINT',
        'rating': 'DOUBLE', 'timestamp': 'BIGINT'}})"""
    )
    good = f"""user_id >= 0 AND item_id >= 0 AND rating BETWEEN {RULES.min_rating} AND {RULES.max_rating}
        AND timestamp BETWEEN {RULES.earliest} AND {int(time.time()) + RULES.max_future_s}"""
    parquet = "(FORMAT parquet, COMPRESSION zstd)"
    place.execute(f"COPY (SELECT * FROM raw WHERE NOT coalesce({good}, false)) TO '{folder}/quarantine.parquet' {parquet}")
    place.execute(
        f"""CREATE TABLE events AS SELECT *, max(timestamp) OVER (PARTITION BY user_id, item_id) = timestamp AS newest
        FROM raw WHERE {good}
        QUALIFY row_number() OVER (PARTITION BY user_id, item_id, timestamp ORDER BY rating DESC, row DESC) = 1
        ORDER BY user_id, timestamp, item_id"""
    )
    place.execute("DROP TABLE raw")
    place.execute(f"COPY (SELECT * EXCLUDE newest FROM events WHERE newest) TO '{folder}/interactions.parquet' {parquet}")
    place.execute(
        f"""COPY (
            WITH enriched AS (SELECT *,
                dense_rank() OVER (ORDER BY user_id) - 1 AS user_idx,
                dense_rank() OVER (ORDER BY item_id) - 1 AS item_idx,
                timestamp // 86400 AS rating_date,
                make_timestamp(timestamp * 1000000) AS moment,
                coalesce(timestamp - lag(timestamp) OVER (PARTITION BY user_id ORDER BY timestamp, item_id), -1) AS gap_s,
                rank() OVER (PARTITION BY user_id ORDER BY timestamp) - 1 AS user_events_before,
                rank() OVER (PARTITION BY item_id ORDER BY timestamp) - 1 AS item_events_before
                FROM events),
            dated AS (SELECT *, year(moment) AS rating_year, month(moment) AS rating_month, isodow(moment) - 1 AS rating_weekday,
                hour(moment) AS rating_hour,
                sum((gap_s > {SESSION_GAP_S})::BIGINT) OVER (PARTITION BY user_id ORDER BY timestamp, item_id)::BIGINT AS session_id
                FROM enriched)
            SELECT {", ".join(FEATURE_COLUMNS)} FROM dated WHERE newest ORDER BY user_id, timestamp, item_id
        ) TO '{folder}/features.parquet' {parquet}"""
    )


ENGINES = {"ours": ours, "pandas": pandas, "polars": polars, "duckdb": duckdb}


def features_file(name: str, folder: Path) -> Path:
    """Return the file to which an engine wrote its features."""
    return next(folder.rglob("features.parquet")) if name == "ours" else folder / "features.parquet"


def _peak_gib() -> float:
    """Return the peak resident memory of this process. getrusage would also count the parent's memory from before exec."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return round(int(status.split("VmHWM:")[1].split()[0]) / 2**20, 2)


if __name__ == "__main__":
    ENGINES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"cpu_s": round(time.process_time(), 2), "peak_gib": _peak_gib()}))
