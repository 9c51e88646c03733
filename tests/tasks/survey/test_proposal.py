"""What a survey proposes fits the data, is read as settings, and leaves open what the data leave open."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import SourceError
from configs.loading import load_settings
from configs.plain_yaml import read_plain_yaml
from configs.settings import RetrainSettings
from tasks.survey import Proposal, proposal_of, survey_of
from tasks.survey.one_line_yaml import commented, in_one_line
from tests import own_events
from tests.own_events import SHAPES
from tests.tasks.surveyed import events_file, proposed, settings_of

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("with_tables", [False, True])
def test_the_proposal_maps_each_shape_with_at_most_six_settings(name: str, with_tables: bool, tmp_path: Path) -> None:
    shape = SHAPES[name]()
    file = own_events.write(shape, tmp_path / name, tables=with_tables)
    path = file.parent if with_tables else file
    proposal = proposed(path)
    assert not proposal.blocking and len(proposal.active) <= 6
    data = settings_of(proposal, path, tmp_path).data
    wanted = dict(shape.data["columns"])
    wanted.pop("weight", None)
    assert data.columns.named == wanted and data.feedback == "implicit" and data.dataset == name
    assert data.repeats == shape.data.get("repeats", "newest")
    if with_tables:
        for table, chosen in shape.tables.items():
            found = getattr(data, table)
            assert {role: value for role, value in chosen.items() if role != "attributes"} == found.named
            assert set(found.attributes) == set(chosen["attributes"])


@pytest.mark.parametrize("name", SHAPES)
def test_every_commented_setting_can_be_used_by_removing_its_mark(name: str, tmp_path: Path) -> None:
    path = own_events.write(SHAPES[name](), tmp_path / name, tables=False)
    lines = proposed(path).yaml(path).splitlines()
    used = [
        line.replace("# ", "", 1) if (line.lstrip().startswith("# ") and ": " in line) or line.endswith(":") else line
        for line in lines
    ]
    kept = [line for line in used if not line.startswith(("Proposed", "`recsys", "OPEN")) and line.strip() != "repeats: newest"]
    (tmp_path / "all.yaml").write_text(
        "\n".join(kept).replace("columns: {", "columns: {weight: kind, " if name == "shop" else "columns: {", 1)
    )
    found = load_settings(RetrainSettings, [str(tmp_path / "all.yaml")], [], {}, [RetrainSettings])
    assert found.validation.min_rows == (3800 if name == "news" else 4000)  # of news, 7 % are repeats, which do not count
    assert found.models.ss4rec.max_length == 16 and found.data.nouns.item == "item"
    assert found.data.weights.keys() == ({"view", "cart", "purchase"} if name == "shop" else set())


def test_the_sample_file_of_the_documentation_runs_as_it_is(tmp_path: Path) -> None:
    path = ROOT / "examples" / "shop.csv"
    proposal = proposed(path)
    data = settings_of(proposal, path, tmp_path).data
    assert not proposal.blocking and (data.dataset, data.repeats, data.feedback) == ("shop", "keep", "implicit")
    assert str(path.relative_to(ROOT)) in (ROOT / "docs" / "how-to" / "own-events.md").read_text()


def test_movielens_columns_need_no_mapping(tmp_path: Path) -> None:
    path = events_file(tmp_path, rating=np.arange(800) % 5 + 1)
    proposal = proposed(path)
    assert {setting.name for setting in proposal.active} == {"data.local_path", "data.dataset", "validation.min_rows"}
    assert settings_of(proposal, path, tmp_path).validation.min_rows == 640
    assert any("the gate needs 75 users" in said for said in proposal.open)


def test_a_model_of_other_data_keeps_its_name(tmp_path: Path) -> None:
    path = own_events.write(own_events.shop(), tmp_path / "shop").parent
    free, taken = proposal_of(survey_of(path), path), proposal_of(survey_of(path), path, "ml-100k")
    assert settings_of(free, path, tmp_path).model_name == "movie-ranker"
    found = settings_of(taken, path, tmp_path)
    assert found.model_name == "shop" and found.data.repeats == "keep" and len(taken.active) <= 6
    assert "# columns_items: {" in taken.yaml(path), "it is the seventh"
    assert any(
        said.startswith("shop-items.csv describes items; remove the mark in front of data.columns_items") for said in taken.open
    )


def test_what_the_run_needs_is_active_however_much_it_is(tmp_path: Path) -> None:
    days = pd.to_datetime(1_600_000_000 + 3600 * np.arange(300), unit="s")
    frame = {"customer": np.arange(300) % 30, "sku": np.arange(300) % 20, "bought": days.strftime("%d.%m.%Y %H:%M")}
    pd.DataFrame(frame).to_csv(tmp_path / "orders.csv", index=False)
    proposal = proposal_of(survey_of(tmp_path / "orders.csv"), tmp_path / "orders.csv", "ml-100k")
    found = settings_of(proposal, tmp_path, tmp_path)
    assert found.model_name == "orders" and found.data.repeats == "keep" and found.data.timezone == "UTC"
    assert found.validation.min_rows == 240 and found.evaluation.k_core == 2 and len(proposal.active) == 10


def test_rows_that_occur_twice_do_not_raise_the_least_number_of_events(tmp_path: Path) -> None:
    twice = np.repeat(np.arange(400), 2)
    path = events_file(tmp_path, user_id=twice // 20, item_id=twice % 20, timestamp=1_600_000_000 + twice)
    found = settings_of(proposed(path), path, tmp_path)
    assert found.data.repeats == "keep" and found.validation.min_rows == 320


def test_thresholds_that_would_refuse_the_data_are_set(tmp_path: Path) -> None:
    ratings = np.tile([1, 4, 7, 10], 200)
    users = np.arange(800) // 4 + 1  # 200 users with four items each
    path = events_file(tmp_path, user_id=users, rating=ratings, timestamp=500_000_000 + np.arange(800))
    found = settings_of(proposed(path), path, tmp_path)
    assert found.validation.max_rating == 10 and found.validation.min_rating == 0.5 and found.evaluation.k_core == 4
    assert found.validation.earliest <= 500_000_000


def test_a_date_with_two_readings_is_left_open_with_both(tmp_path: Path) -> None:
    days = pd.to_datetime(1_600_000_000 + 3600 * np.arange(800), unit="s")
    path = events_file(tmp_path, timestamp=(days - pd.to_timedelta(days.day.to_numpy() % 12, unit="D")).strftime("03/04/%Y"))
    proposal = proposed(path)
    assert "%d/%m/%Y and %m/%d/%Y" in proposal.blocking[0]
    text = proposal.yaml(path)
    assert '# timestamp_format: "%d/%m/%Y"' in text and '# timestamp_format: "%m/%d/%Y"' in text
    path = events_file(tmp_path / "clear", timestamp=days.strftime("%d/%m/%Y %H:%M"))
    found = settings_of(proposed(path), path, tmp_path).data
    assert found.timestamp_format == "%d/%m/%Y %H:%M" and found.timezone == "UTC"


def test_times_without_a_zone_are_said_to_be_a_guess(tmp_path: Path) -> None:
    days = pd.to_datetime(1_600_000_000 + 3600 * np.arange(800), unit="s")
    path = events_file(tmp_path, timestamp=days.strftime("%Y-%m-%d %H:%M:%S"))
    proposal = proposed(path)
    assert settings_of(proposal, path, tmp_path).data.timezone == "UTC" and any(
        "UTC is a guess" in said for said in proposal.open
    )


def test_columns_that_nobody_can_tell_apart_are_left_open(tmp_path: Path) -> None:
    path = events_file(tmp_path, user_id=None, item_id=None, a=np.arange(800) // 20, b=np.arange(800) % 20)
    proposal = proposed(path)
    assert [said.partition("?")[0] for said in proposal.blocking] == [
        "which column is the user's id",
        "which column is the item's id",
    ]
    assert "# columns: {user: a}" in proposal.yaml(path) and "# columns: {user: b}" in proposal.yaml(path)
    assert yaml.safe_load(proposal.yaml(path))["data"]["dataset"] == "events"


@pytest.mark.parametrize(("user", "item"), [("visitorid", "itemid"), ("USERID", "MOVIEID"), ("CustomerKey", "product_code")])
def test_names_of_ids_are_known_however_they_are_written(user: str, item: str, tmp_path: Path) -> None:
    own = {user: np.arange(800) // 20, item: np.arange(800) % 20}
    path = events_file(tmp_path, user_id=None, item_id=None, **own)
    proposal = proposed(path)
    assert not proposal.blocking
    assert settings_of(proposal, path, tmp_path).data.columns.named == {"user": user, "item": item}


def test_numbers_with_leading_zeros_are_said_to_be_text_or_integers(tmp_path: Path) -> None:
    path = events_file(tmp_path, user_id=[f"{user:05d}" for user in np.arange(800) // 20])
    proposal = proposed(path)
    assert any("leading zeros" in said for said in proposal.open) and "# id_type: {user: text}" in proposal.yaml(path)


def test_a_folder_a_zip_and_a_file_give_the_same_columns(tmp_path: Path) -> None:
    file = own_events.write(own_events.shop(), tmp_path / "shop")
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        for path in file.parent.iterdir():
            archive.write(path, path.name)
    (file.parent / "_hidden.csv").write_text("nothing")
    (file.parent / "notes.csv").write_text("a,b\n1,2\n")
    zipped, folder = (settings_of(proposed(path), path, tmp_path).data for path in (tmp_path / "shop.zip", file.parent))
    assert zipped.columns_items == folder.columns_items and zipped.columns == folder.columns
    assert any("shop-items.csv beside the file describes items" in said for said in proposed(file).open)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1\t2\t3\t4\n", "is not a header"),
        ("", "is empty"),
        ("a,a\n1,2\n", "two columns with the same name"),
        ("name,price\nx,1\ny,2\n", "has no table of events"),
    ],
)
def test_what_is_no_table_of_events_is_refused_in_one_sentence(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(content)
    with pytest.raises(SourceError, match=said):
        survey_of(tmp_path / "events.csv")
    with pytest.raises(SourceError, match=r"other\.csv does not exist\. Give the path"):
        survey_of(tmp_path / "other.csv")
    with pytest.raises(SourceError, match="contains no table"):
        (tmp_path / "empty").mkdir()
        survey_of(tmp_path / "empty")


def active_of(proposal: Proposal) -> dict[str, Any]:
    """Return the active settings as nested mappings."""
    found: dict[str, Any] = {}
    for setting in proposal.active:
        section = found
        for part in setting.section.split(".") if setting.section else ():
            section = section.setdefault(part, {})
        section[setting.key] = setting.value
    return found


BREAKS = st.sampled_from(
    ["\n", "\r", "\x85", "\u2028", "\u2029", "\x0b", "\x7f", "\ufeff", "#", ": ", "{", '"', "'", "x", "\\", " ", "1", "."]
)
NASTY = st.lists(BREAKS | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map("".join)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=st.tuples(NASTY, NASTY, NASTY, NASTY), kinds=st.tuples(NASTY, NASTY), stem=NASTY)
def test_no_name_and_no_cell_becomes_a_setting(
    names: tuple[str, ...], kinds: tuple[str, str], stem: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = 200
    own = [f"{word} {name}" for word, name in zip(("user", "item", "time", "kind"), names, strict=True)]
    cells = {
        own[0]: np.arange(rows) % 30,
        own[1]: np.arange(rows) % 20,
        own[2]: 1_600_000_000 + np.arange(rows),
        own[3]: np.array(kinds, dtype=object)[np.arange(rows) % 2],
    }
    path = tmp_path_factory.mktemp("nasty") / f"{stem.replace('/', '_').encode()[:60].decode(errors='ignore')}x.parquet"
    try:
        pd.DataFrame(cells).to_parquet(path)
    except (OSError, ValueError):
        return  # no file has such a name
    proposal = proposed(path)
    text = proposal.yaml(path)
    assert read_plain_yaml(text)[0] == active_of(proposal)
    assert set(active_of(proposal)) <= {"data", "validation", "evaluation"}


def test_a_cell_with_line_ends_stays_a_comment(tmp_path: Path) -> None:
    kinds = np.array(["view", "buy", "x\nstore: {url: 'file:/tmp/other'}\n#"], dtype=object)[np.arange(800) % 3]
    path = events_file(tmp_path, kind=kinds)
    text = proposed(path).yaml(path)
    assert "store" not in yaml.safe_load(text) and "\\nstore: {url: 'file:/tmp/other'}\\n#" in text
    assert settings_of(proposed(path), path, tmp_path).store.url == RetrainSettings().store.url


@pytest.mark.parametrize(
    "name", [".5", ".inf", "item ", "No", "~", "item: x", "1e5", "2024-01-01", "a #b", "item\u2028", "artikel ü"]
)
def test_a_name_in_the_settings_is_read_as_it_is(name: str) -> None:
    assert read_plain_yaml(f"columns: {in_one_line({'item': name})}  # {commented(name)}")[0] == {"columns": {"item": name}}


def test_a_column_whose_name_no_attribute_can_have_is_not_proposed(tmp_path: Path) -> None:
    path = events_file(tmp_path / "data")
    names = ("price", "movie_idx", "title_at", "price_from")
    pd.DataFrame({"item_id": np.arange(100, 120), **{name: np.arange(20) % 7 / 2 for name in names}}).assign(
        title=[f"Title {number}" for number in range(20)]
    ).to_csv(path.parent / "items.csv", index=False)
    data = settings_of(proposed(path.parent), path.parent, tmp_path).data
    assert data.columns_items.attributes == ("price",)


def test_numbers_that_are_no_clear_weight_are_left_open(tmp_path: Path) -> None:
    rows = np.arange(800)
    ids = events_file(tmp_path / "ids", event_id=rows + 10_000)
    assert not settings_of(proposed(ids), ids, tmp_path).data.columns.named and not proposed(ids).open[1:]
    codes = events_file(tmp_path / "codes", behavior_type=rows % 3)
    text = proposed(codes).yaml(codes)
    assert not settings_of(proposed(codes), codes, tmp_path).data.columns.named
    assert "behavior_type may say the kind of event: 0 (267), 1 (267), 2 (266)" in text
    assert "# columns: {weight: behavior_type}" in text and '# weights: {"0": 0.1, "1": 0.1, "2": 0.1}' in text
    counts = events_file(tmp_path / "counts", quantity=rows % 50)
    assert any("Its 16 events of weight 0 would be left out" in said for said in proposed(counts).open)
    assert not settings_of(proposed(counts), counts, tmp_path).data.columns.named
    clear = events_file(tmp_path / "clear", weight=0.5 + rows % 3)
    assert settings_of(proposed(clear), clear, tmp_path).data.columns.named == {"weight": "weight"}


@pytest.mark.parametrize("odd", ["NA", "null", "five"])
def test_an_odd_cell_among_ratings_does_not_make_events_implicit(odd: str, tmp_path: Path) -> None:
    ratings = [odd if row == 7 else str(row % 5 + 1) for row in range(800)]
    path = events_file(tmp_path, rating=ratings)
    assert settings_of(proposed(path), path, tmp_path).data.feedback == "explicit"


def test_a_column_of_ratings_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = events_file(tmp_path, rating=np.array(["good", "bad"])[np.arange(800) % 2])
    assert settings_of(proposed(path), path, tmp_path).data.feedback == "implicit"
    assert any(said.startswith("rating may hold ratings") for said in proposed(path).open)


def test_attributes_are_only_those_that_the_settings_take(tmp_path: Path) -> None:
    path = events_file(tmp_path / "all").parent
    number = np.arange(20)
    items = {
        "item_id": number + 100,
        "title": [f"t {n}" for n in number],
        "year": 1990.0 + number,
        "rating": number % 4,
        "timestamp": number,
    }
    items |= {"price": number % 7, "price_at": number % 3, "x" * 201: number % 5}
    pd.DataFrame(items).to_csv(path / "items.csv", index=False)
    users = {
        "user_id": np.arange(1, 41),
        "age": 20.0 + np.arange(40),
        "zip_code": np.arange(40) % 9 + 10_000,
        "city": np.arange(40) % 3,
    }
    pd.DataFrame(users).to_csv(path / "users.csv", index=False)
    found = settings_of(proposed(path), path, tmp_path).data
    assert found.columns_items.named == {"item": "item_id", "title": "title", "year": "year"}
    assert found.columns_items.attributes == ("price",)
    assert found.columns_users.named == {"user": "user_id", "age": "age"} and found.columns_users.attributes == ("city",)


def test_times_of_descriptions_are_only_used_if_they_are_in_seconds(tmp_path: Path) -> None:
    path = events_file(tmp_path / "all").parent
    items = pd.DataFrame({"item_id": np.arange(20) + 100, "title": [f"t {n}" for n in range(20)]})
    items.assign(updated="2024-01-01 10:00:00").to_csv(path / "items.csv", index=False)
    assert settings_of(proposed(path), path, tmp_path).data.columns_items.updated_at is None
    items.assign(updated=1_700_000_000).to_csv(path / "items.csv", index=False)
    assert settings_of(proposed(path), path, tmp_path).data.columns_items.updated_at == "updated"


def test_what_the_settings_refuse_is_said_before_the_file_is_written(tmp_path: Path) -> None:
    path = events_file(tmp_path, user_id=None, **{f"user {'x' * 200}": np.arange(800) // 20})
    assert any("the settings are refused as they are" in said and "data.columns.user" in said for said in proposed(path).blocking)


def test_bytes_and_uuids_of_parquet_are_surveyed_as_text(tmp_path: Path) -> None:
    cells = pd.read_csv(events_file(tmp_path / "numbers"))
    users = pa.array([UUID(int=int(user)).bytes for user in cells["user_id"]], pa.binary(16))
    items = pa.array([f"p{item}".encode() for item in cells["item_id"]])
    columns = {
        "user_id": users,
        "item_id": items,
        "timestamp": cells["timestamp"],
        "thumbnail": pa.array([b"\xff\xd8"] * len(cells)),
    }
    (tmp_path / "bytes").mkdir()
    pq.write_table(pa.table(columns), path := tmp_path / "bytes" / "events.parquet")
    assert settings_of(proposed(path), path, tmp_path).data.id_type.user in ("auto", "text")
