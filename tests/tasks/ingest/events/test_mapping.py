"""However events are written, they are the same events: only the ids have other texts."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.settings import DataSettings, ValidationSettings
from models.columns import Columns
from models.identity import number_of
from tasks.ingest import open_event_file, reading_for, resolved_properties
from tests import synthetic

NOW = 1_780_000_000
FRAME = synthetic.interactions(20, 15, 8)
ZONE = "America/Sao_Paulo"  # it set its clocks for summer until 2019
NAMES = (
    st.text("abcdefgXYZ é_-", min_size=1, max_size=12).map(str.strip).filter(lambda name: name and name not in Columns.ALIASES)
)
IDS = {
    "integer": lambda number: number,
    "prefixed": lambda number: f"cust/{number:05d}",
    "padded": lambda number: f"{number:08d}",
    "long": lambda number: f"{number}{'7' * 30}",
    "spoken": lambda number: f"Ünï, «{number}»",
}
PATTERN = "%d.%m.%Y %H:%M:%S"


def iso(second: int, zone: Any = UTC) -> str:
    return datetime.fromtimestamp(second, zone).isoformat()


TIMES: dict[str, Any] = {
    "s": lambda second: second,
    "ms": lambda second: second * 1000 + 999,
    "us": lambda second: second * 10**6 + 1,
    "ns": lambda second: second * 10**9 + 999_999_999,
    "zulu": lambda second: f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.25Z",
    "offset": lambda second: iso(second, ZoneInfo(ZONE)),
    "utc": lambda second: f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}",
    "pattern": lambda second: f"{datetime.fromtimestamp(second, UTC):{PATTERN}}",
}
SETTINGS: dict[str, dict[str, str]] = {
    "utc": {"timezone": "UTC"},
    "pattern": {"timezone": "UTC", "timestamp_format": PATTERN},
}
FORMS = st.sampled_from([(".csv", ",", 0), (".csv", ";", 1), (".tsv", "\t", 0), (".csv.gz", ",", 1), (".parquet", "", 0)])


def content(frame: pd.DataFrame, suffix: str, separator: str, quoting: int) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, row_group_size=50)
        return buffer.getvalue()
    frame.to_csv(buffer, index=False, sep=separator, quoting=quoting)  # type: ignore[call-overload]
    return gzip.compress(buffer.getvalue()) if suffix.endswith(".gz") else buffer.getvalue()


@pytest.mark.full
@given(
    names=st.lists(NAMES, min_size=5, max_size=5, unique_by=str.lower),
    kinds=st.tuples(st.sampled_from(sorted(IDS)), st.sampled_from(sorted(IDS))),
    time=st.sampled_from(sorted(TIMES)),
    form=FORMS,
    order=st.permutations(range(5)),
    chunk_rows=st.sampled_from([40, 1_000_000]),
)
def test_a_mapped_re_encoded_and_re_timed_file_gives_the_same_events_up_to_the_ids(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    kinds: tuple[str, str],
    time: str,
    form: tuple[str, str, int],
    order: list[int],
    chunk_rows: int,
) -> None:
    user, item, rating, at, other = names
    seconds = FRAME["timestamp"].tolist()
    written = pd.DataFrame(
        {
            user: [IDS[kinds[0]](number) for number in FRAME["user_id"].tolist()],
            item: [IDS[kinds[1]](number) for number in FRAME["item_id"].tolist()],
            rating: FRAME["rating"],
            at: [TIMES[time](second) for second in seconds],
            other: "x",
        }
    )
    path = tmp_path_factory.mktemp("mapped") / f"events{form[0]}"
    path.write_bytes(content(written.iloc[:, order], *form))
    columns = {"user": user, "item": item, "rating": rating, "timestamp": at}
    data = DataSettings.model_validate({"columns": columns, **SETTINGS.get(time, {})})
    properties = resolved_properties(data, [path])
    assert (
        properties.text_columns
        == tuple(name for name, kind in zip((Columns.USER, Columns.ITEM), kinds, strict=True) if kind not in ("integer", "long"))
        or "long" in kinds
    )
    data = DataSettings.model_validate(
        {
            **data.model_dump(),
            "id_type": {
                key: "integer" if kind == "integer" else "text" for key, kind in zip(("user", "item"), kinds, strict=True)
            },
        }
    )
    reading = reading_for(data, resolved_properties(data, [path]))
    chunks = list(open_event_file(path, ValidationSettings(), NOW, chunk_rows, reading).chunks())
    assert not sum(len(chunk.quarantined) for chunk in chunks)
    found = pd.concat([chunk.accepted for chunk in chunks], ignore_index=True)
    assert found["timestamp"].tolist() == seconds and np.array_equal(found["rating"], FRAME["rating"])
    for name, kind in zip((Columns.USER, Columns.ITEM), kinds, strict=True):
        texts = [IDS[kind](number) for number in FRAME[name].tolist()]
        assert found[name].tolist() == (texts if kind == "integer" else [number_of(text) for text in texts])
        pairs = {
            n: t for chunk in chunks if name in chunk.ids for n, t in zip(*chunk.ids[name].to_pydict().values(), strict=True)
        }
        assert pairs == ({} if kind == "integer" else {number_of(text): text for text in texts})
